package org.mesp.app

import android.app.Application
import android.app.Notification
import android.app.NotificationManager
import android.content.Intent
import android.os.BatteryManager
import android.os.Build
import android.os.Looper
import android.os.PowerManager
import android.view.View
import android.widget.TextView
import java.io.File
import java.io.RandomAccessFile
import java.util.concurrent.Executor
import org.junit.Assert.fail
import org.mesp.app.phone.LibraryNote
import org.mesp.app.phone.Logcat
import org.mesp.app.service.Command
import org.mesp.app.service.CoreTrainer
import org.mesp.app.service.FakeTrainer
import org.mesp.app.service.RunNotification
import org.mesp.app.state.Status
import org.mesp.app.state.text
import org.mesp.app.storage.RunFolder
import org.mesp.app.storage.RunRequest
import org.mesp.core.engine.MANIFEST
import org.robolectric.Robolectric
import org.robolectric.RuntimeEnvironment
import org.robolectric.Shadows.shadowOf
import org.robolectric.android.controller.ActivityController
import org.robolectric.android.controller.ServiceController
import org.robolectric.shadows.ShadowLog
import org.robolectric.shadows.ShadowPowerManager

/** A phone with the app, one bundle and one data file on it: the real Activity and service, and, unless asked, a trainer that trains nothing. */
class TestPhone(withFiles: Boolean = true, reallyTrains: Boolean = false) {
    val application: Application = RuntimeEnvironment.getApplication()
    val app = application.mesp
    val trainer = FakeTrainer()
    val power: ShadowPowerManager = shadowOf(application.getSystemService(PowerManager::class.java))
    val notifications: NotificationManager = application.getSystemService(NotificationManager::class.java)
    private var controller: ServiceController<TrainService>? = null
    private var activityController: ActivityController<MainActivity>? = null

    init {
        app.trainer = if (reallyTrains) CoreTrainer else trainer
        app.background = Executor(Runnable::run)
        app.copies = Executor(Runnable::run)
        plug(true)
        if (withFiles) {
            addBundle("smollm2-135m", "SmolLM2-135M-Instruct.Q4_1.gguf", 120_937_000)
            File(app.folders.ownData.apply { mkdirs() }, "hamlet.txt").writeText("Who's there?\n".repeat(10_000))
        }
        app.store.update { it.copy(library = LibraryNote.of(application.assets)) }
    }

    /** No bundle that trains: a manifest, and weights that are a hole in the file. */
    fun addBundle(name: String, model: String, bytes: Long) {
        val folder = File(app.folders.bundles, name).apply { mkdirs() }
        folder.resolve("manifest.json").writeText(MANIFEST.replace("MODEL", model))
        RandomAccessFile(folder.resolve("weights.safetensors"), "rw").use { it.setLength(bytes) }
    }

    val state get() = app.store.state
    val run get() = state.run!!

    fun runFolder(name: String) = File(app.folders.runs, name)

    fun report(name: String = run.name) = RunFolder(runFolder(name)).report!!

    // --- Activity -----------------------------------------------------------------------------------------------------

    fun open(): MainActivity {
        val new = Robolectric.buildActivity(MainActivity::class.java)
        activityController = new
        new.setup()
        idle()
        return new.get()
    }

    /** As when the phone is turned. */
    fun recreate(): MainActivity {
        activityController!!.recreate()
        idle()
        return activityController!!.get()
    }

    // --- Service ------------------------------------------------------------------------------------------------------

    /** Delivers what was asked of the service, as Android would. */
    fun deliver() {
        while (true) {
            val intent = shadowOf(application).nextStartedService ?: break
            if (intent.component?.className == ImportService::class.java.name) copy(intent) else send(intent)
        }
    }

    /** The service that copies, and its end. */
    fun copy(intent: Intent): ServiceController<ImportService> {
        val service = Robolectric.buildService(ImportService::class.java, intent).create().startCommand(0, 1)
        idle()
        return service
    }

    fun send(intent: Intent) {
        val service = controller ?: Robolectric.buildService(TrainService::class.java, intent).create().also { controller = it }
        service.withIntent(intent).startCommand(0, 1)
        idle()
    }

    val service: TrainService get() = controller!!.get()
    val serviceIsThere get() = controller != null

    fun startRun(output: String = "first", edit: Intent.() -> Unit = {}) {
        val request = RunRequest("bundles/smollm2-135m", "data/hamlet.txt", output)
        send(request.intent(application).putExtra("settings", """{"steps": 3}""").apply(edit))
    }

    fun tell(command: Command) = send(command.intent(application))

    // --- Waiting ------------------------------------------------------------------------------------------------------

    fun idle() {
        shadowOf(Looper.getMainLooper()).idle()
        // A service that stopped itself is destroyed; the next start makes a new one.
        controller?.takeIf { shadowOf(it.get()).isStoppedBySelf }?.let {
            controller = null
            it.destroy()
        }
    }

    /** Lets the main thread run until this holds: the training thread is a real one. */
    fun await(what: String, seconds: Int = 20, holds: () -> Boolean) {
        val end = System.nanoTime() + seconds * 1_000_000_000L
        while (true) {
            idle()
            if (holds()) return
            if (System.nanoTime() > end) fail("waited for: $what; the state is $state")
            Thread.sleep(5)
        }
    }

    /** Until this step is under way: what is asked of the run now holds after it. */
    fun awaitInStep(step: Int) = await("step $step") { trainer.inStep == step }

    /** Of an end until the service has heard of it too: what it still does would fall into the next test. */
    fun awaitStatus(status: Status) = await("$status") { state.run?.status == status && (!status.ended || !serviceIsThere) }

    // --- The phone ----------------------------------------------------------------------------------------------------

    /** As warm as this thermal status says; on an Android that has none, the battery is. The app has heard of it. */
    fun warm(status: Int) {
        if (Build.VERSION.SDK_INT >= 29) power.setCurrentThermalStatus(status) else plug(true, 31.5 + 5 * status)
        idle()
    }

    /** @param percent how full the battery is, null where the phone does not tell */
    fun plug(plugged: Boolean, celsius: Double = 31.5, percent: Int? = null) {
        val status = if (plugged) BatteryManager.BATTERY_STATUS_CHARGING else BatteryManager.BATTERY_STATUS_DISCHARGING
        val intent =
            Intent(Intent.ACTION_BATTERY_CHANGED)
                .putExtra(BatteryManager.EXTRA_PLUGGED, if (plugged) BatteryManager.BATTERY_PLUGGED_AC else 0)
                .putExtra(BatteryManager.EXTRA_STATUS, status)
                .putExtra(BatteryManager.EXTRA_TEMPERATURE, (celsius * 10).toInt())
        percent?.let { intent.putExtra(BatteryManager.EXTRA_LEVEL, it).putExtra(BatteryManager.EXTRA_SCALE, 100) }
        application.sendStickyBroadcast(intent)
    }

    /** What is left in the battery, by its counter. */
    fun charge(microampHours: Int) =
        shadowOf(application.getSystemService(BatteryManager::class.java))
            .setIntProperty(BatteryManager.BATTERY_PROPERTY_CHARGE_COUNTER, microampHours)

    fun notification(id: Int = RunNotification.RUNNING): Notification? = shadowOf(notifications).getNotification(id)

    fun logged(): List<String> = ShadowLog.getLogsForTag(Logcat.TAG).map { it.msg }

    private companion object {
        const val MANIFEST =
            """{"format": "mesp-bundle", "format_version": 5, "model": {"origin": "models/MODEL"},
            "plan": {"seq_len": [256], "rank": 8, "method": "mesp", "weights": "int4", "group_size": 32}}"""
    }
}

fun MainActivity.text(screen: Int, id: Int) = findViewById<View>(screen).findViewById<TextView>(id).text.toString()

fun MainActivity.isShown(id: Int) = findViewById<View>(id).visibility == View.VISIBLE

fun Notification.title() = extras.getCharSequence(Notification.EXTRA_TITLE).toString()

fun Notification.body() = extras.getCharSequence(Notification.EXTRA_TEXT).toString()

fun Notification.actionTitles() = actions.orEmpty().map { it.title.toString() }
