package org.mesp.app

import android.Manifest
import android.app.Activity
import android.app.NotificationManager
import android.content.ActivityNotFoundException
import android.content.ClipData
import android.content.Intent
import android.net.Uri
import android.os.Build
import android.os.Bundle
import android.view.View
import android.widget.TextView
import java.io.IOException
import java.time.LocalDateTime
import java.time.format.DateTimeFormatter
import org.mesp.app.phone.Background
import org.mesp.app.phone.Battery
import org.mesp.app.phone.Logcat
import org.mesp.app.phone.MakerSettings
import org.mesp.app.screens.Actions
import org.mesp.app.screens.FilesScreen
import org.mesp.app.screens.QuestionDialog
import org.mesp.app.screens.RunScreen
import org.mesp.app.screens.SetupScreen
import org.mesp.app.screens.say
import org.mesp.app.screens.show
import org.mesp.app.service.Command
import org.mesp.app.state.Answer
import org.mesp.app.state.Form
import org.mesp.app.state.Item
import org.mesp.app.state.Place
import org.mesp.app.state.Problems
import org.mesp.app.state.Question
import org.mesp.app.state.UiState
import org.mesp.app.storage.ImportKind
import org.mesp.app.storage.Results
import org.mesp.app.storage.RunRequest

/**
 * The screen. It draws the store's state and turns what the person does into changes of it, or commands to the service; it holds nothing
 * of a run, so it may be made anew at any time, as when the phone is turned.
 */
class MainActivity : Activity(), Actions {
    private lateinit var setup: SetupScreen
    private lateinit var run: RunScreen
    private lateinit var files: FilesScreen
    private lateinit var questions: QuestionDialog
    private lateinit var setupView: View
    private lateinit var runView: View
    private lateinit var filesView: View
    private lateinit var licencesView: View
    private var unobserve = {}

    /** The run whose result is being saved, while the system's picker asks where. */
    private var saving: String? = null
    private val store get() = mesp.store

    override fun onCreate(saved: Bundle?) {
        super.onCreate(saved)
        setContentView(R.layout.main)
        setupView = findViewById(R.id.setup)
        runView = findViewById(R.id.run)
        filesView = findViewById(R.id.files)
        licencesView = findViewById(R.id.licences_screen)
        setup = SetupScreen(setupView, this)
        run = RunScreen(runView, this)
        files = FilesScreen(filesView, this)
        questions = QuestionDialog(this, this)
        findViewById<View>(R.id.licences_back).setOnClickListener { back() }
        mesp.clearUp()
        saving = saved?.getString(SAVING)
        mesp.remover.finish()
        mesp.shelf.refresh()
    }

    override fun onStart() {
        super.onStart()
        unobserve = store.observe(::render)
    }

    override fun onResume() {
        super.onResume()
        // The person may come back from the system's settings.
        val off = !getSystemService(NotificationManager::class.java).areNotificationsEnabled()
        val background = Background.of(this)
        store.update { it.copy(notificationsOff = off, background = background) }
    }

    override fun onStop() {
        super.onStop()
        unobserve()
        questions.close()
        mesp.preferences.form = store.state.form
    }

    override fun onSaveInstanceState(out: Bundle) {
        super.onSaveInstanceState(out)
        out.putString(SAVING, saving)
    }

    private fun render(state: UiState) {
        mesp.dataNotes.look(state)
        val place = state.place.takeIf { state.run == null }
        runView.show(place == null)
        setupView.show(place == Place.SETUP)
        filesView.show(place == Place.FILES)
        licencesView.show(place == Place.LICENCES)
        when (place) {
            null -> run.render(state)
            Place.SETUP -> setup.render(state)
            Place.FILES -> files.render(state)
            Place.LICENCES -> findViewById<TextView>(R.id.licences_text).say(licences)
        }
        questions.render(state.question)
    }

    override fun go(place: Place) = store.update { it.copy(place = place, message = null) }

    override fun showDetails() = store.update { it.copy(showDetails = !it.showDetails) }

    /** From a run that is over to where it was opened, and from there to the first screen. */
    override fun back() = store.update { if (it.run == null) it.copy(place = Place.SETUP, message = null) else it.copy(run = null, message = null) }

    @Deprecated("Android's own replacement is not there before API 33")
    override fun onBackPressed() {
        val state = store.state
        val stays = if (state.run == null) state.place == Place.SETUP else !state.run.status.ended
        if (stays) super.onBackPressed() else back()
    }

    // --- Sources ------------------------------------------------------------------------------------------------------

    override fun pickBundleFolder() = pick(Intent(Intent.ACTION_OPEN_DOCUMENT_TREE), BUNDLE_FOLDER)

    // Zip has several types, and data files have none that all phones know: the system may show any, and the copy says what is wrong.
    override fun pickBundleZip() = pick(openDocument(), BUNDLE_ZIP)

    override fun pickData() = pick(openDocument(), DATA)

    private fun openDocument() = Intent(Intent.ACTION_OPEN_DOCUMENT).addCategory(Intent.CATEGORY_OPENABLE).setType("*/*")

    private fun pick(intent: Intent, code: Int) =
        try {
            startActivityForResult(intent, code)
        } catch (_: ActivityNotFoundException) {
            store.update { it.copy(message = getString(R.string.no_picker)) }
        }

    override fun onActivityResult(code: Int, result: Int, intent: Intent?) {
        super.onActivityResult(code, result, intent)
        val uri: Uri = intent?.data?.takeIf { result == RESULT_OK } ?: return
        when (code) {
            BUNDLE_FOLDER -> copy(ImportKind.BUNDLE_FOLDER, uri)
            BUNDLE_ZIP -> copy(ImportKind.BUNDLE_ZIP, uri)
            DATA -> copy(ImportKind.DATA, uri)
            SAVE -> saving?.let { mesp.results.save(it, uri) }
        }
    }

    override fun save(run: String) {
        saving = run
        pick(
            Intent(Intent.ACTION_CREATE_DOCUMENT)
                .addCategory(Intent.CATEGORY_OPENABLE)
                .setType(Results.TYPE)
                .putExtra(Intent.EXTRA_TITLE, Results.fileName(run)),
            SAVE,
        )
    }

    override fun share(run: String) = mesp.results.share(run) { uri -> runOnUiThread { share(run, uri) } }

    private fun share(run: String, uri: Uri) {
        val send =
            Intent(Intent.ACTION_SEND)
                .setType(Results.TYPE)
                .putExtra(Intent.EXTRA_STREAM, uri)
                .putExtra(Intent.EXTRA_TITLE, Results.fileName(run))
                .addFlags(Intent.FLAG_GRANT_READ_URI_PERMISSION)
        // The sheet shows the file's name, and the app that is chosen may read it, by the clip alone.
        send.clipData = ClipData.newRawUri(Results.fileName(run), uri)
        try {
            startActivity(Intent.createChooser(send, null))
        } catch (_: ActivityNotFoundException) {
            store.update { it.copy(message = getString(R.string.no_share)) }
        }
    }

    private fun copy(kind: ImportKind, uri: Uri) {
        askForNotifications()
        try {
            startForegroundService(ImportService.intent(this, kind, uri))
        } catch (error: RuntimeException) { // ForegroundServiceStartNotAllowedException (API 31): the app went to the background just now
            store.update { it.copy(message = getString(R.string.import_background_refused, error.message)) }
        }
    }

    override fun cancelImport() = mesp.importer.cancel()

    override fun change(form: (Form) -> Form) = store.update { it.copy(form = form(it.form), problems = Problems()) }

    // --- The run ------------------------------------------------------------------------------------------------------

    override fun start() {
        val form = store.state.form
        val problems = Problems.of(this, form)
        store.update { it.copy(problems = problems, message = null) }
        if (!problems.none) return
        val battery = Battery.now(this)
        if (battery.saver || (!battery.plugged && !form.onlyWhileCharging)) {
            val estimate = store.state.paces[form.bundle]?.estimate(form.settings())
            store.update { it.copy(question = Question.Start(battery, form.pauseBelowPercent, estimate)) }
        } else {
            begin(form)
        }
    }

    private fun begin(form: Form) {
        val name = LocalDateTime.now().format(DateTimeFormatter.ofPattern("yyyy-MM-dd_HHmmss"))
        val (bundle, data) = mesp.folders.bundlePath(form.bundle!!) to mesp.folders.dataPath(form.data!!)
        begin(RunRequest(bundle, data, name, form.settings(), form.onlyWhileCharging, form.pauseBelowPercent))
    }

    private fun begin(answer: Answer) {
        if (answer == Answer.NO) return
        if (answer == Answer.OTHERWISE) change { it.copy(onlyWhileCharging = true) }
        begin(store.state.form)
    }

    override fun resume(run: String) {
        mesp.requests.read(run)?.let(::begin)
    }

    private fun begin(request: RunRequest) {
        askForNotifications()
        try {
            startForegroundService(request.intent(this))
        } catch (error: RuntimeException) { // ForegroundServiceStartNotAllowedException (API 31): the app went to the background just now
            val reason = getString(R.string.background_refused, error.message)
            Logcat.error("refused", request.output, reason, error)
            store.update { it.copy(message = reason) }
        }
    }

    /** Once. Training does not wait for the answer, and goes on without the permission. */
    private fun askForNotifications() {
        if (Build.VERSION.SDK_INT < 33 || !store.state.notificationsOff || mesp.preferences.askedForNotifications) return
        mesp.preferences.askedForNotifications = true
        requestPermissions(arrayOf(Manifest.permission.POST_NOTIFICATIONS), 0)
    }

    override fun forget(run: String) {
        mesp.preferences.forget(run)
        mesp.shelf.refresh()
    }

    override fun pause() = tell(Command.PAUSE)

    override fun goOn() = tell(Command.CONTINUE)

    override fun stop() = tell(Command.STOP)

    private fun tell(command: Command) {
        startService(command.intent(this))
    }

    override fun newRun() = store.update { it.copy(run = null, place = Place.SETUP, message = null) }

    override fun openBackgroundSettings() {
        if (!MakerSettings.open(this)) store.update { it.copy(message = getString(R.string.no_settings)) }
    }

    // --- Runs and files -----------------------------------------------------------------------------------------------

    override fun open(run: String) = mesp.shelf.open(run)

    override fun askToDelete(item: Item) = store.update { it.copy(question = Question.Delete(item), message = null) }

    override fun answer(answer: Answer) {
        val question = store.state.question
        store.update { it.copy(question = null) }
        when (question) {
            is Question.Start -> begin(answer)
            is Question.Delete -> if (answer == Answer.YES) mesp.remover.remove(question.item)
            null -> Unit
        }
    }

    override fun closeMessage() = store.update { it.copy(message = null) }

    // --- Licences -----------------------------------------------------------------------------------------------------

    private val licences: String by lazy {
        try {
            assets.open("licenses.txt").use { it.reader().readText() }
        } catch (_: IOException) {
            getString(R.string.no_licences)
        }
    }

    private companion object {
        const val SAVING = "saving"
        const val BUNDLE_FOLDER = 1
        const val BUNDLE_ZIP = 2
        const val DATA = 3
        const val SAVE = 4
    }
}
