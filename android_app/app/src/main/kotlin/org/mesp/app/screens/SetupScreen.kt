package org.mesp.app.screens

import android.view.LayoutInflater
import android.view.View
import android.view.ViewGroup
import android.widget.Button
import android.widget.LinearLayout
import android.widget.ProgressBar
import android.widget.RadioButton
import android.widget.TextView
import org.mesp.app.R
import org.mesp.app.phone.Background
import org.mesp.app.phone.appVersion
import org.mesp.app.state.Import
import org.mesp.app.state.Place
import org.mesp.app.state.Resumable
import org.mesp.app.state.StoredRun
import org.mesp.app.state.UiState
import org.mesp.app.state.Words

/** Where a run is put together: bundle, data, settings; or one from before is resumed. */
class SetupScreen(private val view: View, private val actions: Actions) {
    private val context = view.context
    private val words = Words(context)
    private val message = MessageView(view, actions)
    private val settings = SettingsView(view, actions)

    private val resumeCard: View = view.findViewById(R.id.resume_card)
    private val resumeEnding: TextView = view.findViewById(R.id.resume_ending)
    private val resumeSettings: View = view.findViewById(R.id.resume_settings)
    private val backgroundCard: View = view.findViewById(R.id.background_card)
    private val estimate: TextView = view.findViewById(R.id.estimate)
    private val resumeText: TextView = view.findViewById(R.id.resume_text)
    private val lastCard: View = view.findViewById(R.id.last_card)
    private val lastText: TextView = view.findViewById(R.id.last_text)
    private var last: String? = null
    private val bundles: LinearLayout = view.findViewById(R.id.bundles)
    private val data: LinearLayout = view.findViewById(R.id.data)
    private val dataNote: TextView = view.findViewById(R.id.data_note)
    private val importing: View = view.findViewById(R.id.importing)
    private val importingText: TextView = view.findViewById(R.id.importing_text)
    private val importingProgress: ProgressBar = view.findViewById(R.id.importing_progress)
    private val choosers = listOf(R.id.choose_folder, R.id.choose_zip, R.id.choose_file).map { view.findViewById<Button>(it) }
    private val formProblem: TextView = view.findViewById(R.id.form_problem)
    private val about: TextView = view.findViewById(R.id.about)
    private var resumable: String? = null

    init {
        on(R.id.choose_folder, actions::pickBundleFolder)
        on(R.id.choose_zip, actions::pickBundleZip)
        on(R.id.choose_file, actions::pickData)
        on(R.id.cancel_import, actions::cancelImport)
        on(R.id.start, actions::start)
        on(R.id.resume) { resumable?.let(actions::resume) }
        on(R.id.resume_settings, actions::openBackgroundSettings)
        on(R.id.background_settings, actions::openBackgroundSettings)
        on(R.id.forget) { resumable?.let(actions::forget) }
        on(R.id.last_open) { last?.let(actions::open) }
        on(R.id.last_files) { actions.go(Place.FILES) }
        on(R.id.files_open) { actions.go(Place.FILES) }
        on(R.id.licences) { actions.go(Place.LICENCES) }
    }

    fun render(state: UiState) {
        message.render(state.message)
        renderResumable(state.resumable, state.background)
        renderLast(state.runs.firstOrNull().takeIf { state.resumable == null })
        renderRows(bundles, state.bundles.map { it.name to words.bundle(it) }, state.form.bundle, R.string.no_bundles) {
            actions.change { form -> form.copy(bundle = it) }
        }
        renderRows(data, state.data.map { it.name to words.size(it.bytes) }, state.form.data, R.string.no_data) {
            actions.change { form -> form.copy(data = it) }
        }
        dataNote.say(state.dataNote?.let(words::note))
        dataNote.setTextColor(context.getColor(if (state.dataNote?.problem == null) R.color.ink_soft else R.color.bad))
        renderImport(state.importing)
        settings.render(state.form, state.problems)
        formProblem.say(state.problems.form)
        estimate.say(estimate(state))
        backgroundCard.show(state.background.restricted)
        val library = state.library
        val version = appVersion(context)
        about.say(
            if (library == null) context.getString(R.string.about_without, version)
            else context.getString(R.string.about, version, library.name, library.version, library.licence)
        )
    }

    /** Of a model that was never trained here nothing is known before its first step. */
    private fun estimate(state: UiState): String? {
        if (state.form.bundle == null) return null
        val pace = state.paces[state.form.bundle] ?: return context.getString(R.string.estimate_unknown)
        return pace.estimate(state.form.settings())?.let(words::estimate)
    }

    private fun renderResumable(run: Resumable?, background: Background) {
        resumable = run?.name
        resumeCard.show(run != null)
        if (run == null) return
        val what = words.subject(run.model, run.data) ?: run.name
        resumeText.say(
            when {
                run.reason != null -> context.getString(R.string.resume_failed, what, run.step, run.steps, run.reason)
                run.step > 0 -> context.getString(R.string.resume_killed, what, run.step, run.steps)
                else -> context.getString(R.string.resume_killed_early, what)
            }
        )
        val bySystem = run.ending?.bySystem == true
        val optimized = context.getString(R.string.optimized).takeIf { bySystem && background.optimized }
        resumeEnding.say(listOfNotNull(run.ending?.let(words::ending), optimized).joinToString(" "))
        resumeSettings.show(bySystem)
    }

    /** The newest run's report, in a line; not beside the offer to resume it. */
    private fun renderLast(run: StoredRun?) {
        last = run?.name
        lastCard.show(run != null)
        if (run == null) return
        val title = context.getString(R.string.last_run)
        lastText.nameAndFacts(title, listOfNotNull(words.subject(run.model, run.data), words.outcome(run)).joinToString(Words.SEPARATOR))
    }

    private fun renderImport(copy: Import?) {
        importing.show(copy != null)
        for (chooser in choosers) chooser.isEnabled = copy == null
        if (copy == null) return
        importingText.say(words.import(copy))
        // Some sources tell a size that is too small: the end is not known then.
        importingProgress.isIndeterminate = copy.total == null || copy.total <= 0 || copy.done > copy.total
        importingProgress.max = PROGRESS_MAX
        if (!importingProgress.isIndeterminate) importingProgress.progress = (PROGRESS_MAX * copy.done / copy.total!!).toInt()
    }

    /** A row for each file, and which of them is chosen. */
    private fun renderRows(
        list: LinearLayout,
        items: List<Pair<String, String>>,
        chosen: String?,
        none: Int,
        choose: (String) -> Unit,
    ) {
        val new = list.tag != items
        if (new) {
            list.tag = items
            list.removeAllViews()
            if (items.isEmpty()) list.addView(emptyRow(list, none))
            for ((name, facts) in items) list.addView(row(list, name, facts, choose))
        }
        for ((i, item) in items.withIndex()) (list.getChildAt(i) as RadioButton).isChecked = item.first == chosen
        if (new) list.jumpDrawablesToCurrentState() // what was chosen before does not move into its place
    }

    private fun row(list: ViewGroup, name: String, facts: String, choose: (String) -> Unit): View {
        val row = LayoutInflater.from(context).inflate(R.layout.row_choice, list, false) as RadioButton
        row.nameAndFacts(name, facts)
        row.setOnClickListener { choose(name) }
        return row
    }

    private fun emptyRow(list: ViewGroup, text: Int): View {
        val row = LayoutInflater.from(context).inflate(R.layout.row_empty, list, false) as TextView
        row.setText(text)
        return row
    }

    private fun on(id: Int, act: () -> Unit) = view.findViewById<View>(id).setOnClickListener { act() }

    private companion object {
        const val PROGRESS_MAX = 1000
    }
}
