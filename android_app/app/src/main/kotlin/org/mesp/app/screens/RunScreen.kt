package org.mesp.app.screens

import android.view.View
import android.widget.Button
import android.widget.ProgressBar
import android.widget.TextView
import org.mesp.app.R
import org.mesp.app.state.Pause
import org.mesp.app.state.RunState
import org.mesp.app.state.Status
import org.mesp.app.state.UiState
import org.mesp.app.state.WhatToDo
import org.mesp.app.state.Words

/** A run: what it does now, its numbers, its charts, and what can be done with it. */
class RunScreen(private val view: View, private val actions: Actions) {
    private val context = view.context
    private val words = Words(context)
    private val legend = Legend(context)
    private val message = MessageView(view, actions)

    private val name = text(R.id.run_name)
    private val subject = text(R.id.subject)
    private val status = text(R.id.status)
    private val todo = text(R.id.todo)
    private val end = text(R.id.end)
    private val note = text(R.id.note)
    private val step = text(R.id.step)
    private val ofSteps = text(R.id.of_steps)
    private val loss = text(R.id.loss)
    private val lossLabel = text(R.id.loss_label)
    private val result: View = view.findViewById(R.id.result)
    private val next: View = view.findViewById(R.id.next)
    private val numbers: View = view.findViewById(R.id.numbers)
    private val live: View = view.findViewById(R.id.live)
    private val charts: View = view.findViewById(R.id.charts)
    private val progress: ProgressBar = view.findViewById(R.id.progress)
    private val details: Button = view.findViewById(R.id.details)
    private val detailed: View = view.findViewById(R.id.detailed)
    private val rate = Stat(view.findViewById(R.id.rate))
    private val left = Stat(view.findViewById(R.id.left))
    private val peak = Stat(view.findViewById(R.id.peak))
    private val warmth = Stat(view.findViewById(R.id.warmth))
    private val lossChart: LossChart = view.findViewById(R.id.loss_chart)
    private val lossLegend = text(R.id.loss_legend)
    private val memoryChart: MemoryChart = view.findViewById(R.id.memory_chart)
    private val memoryLegend = text(R.id.memory_legend)
    private val first: Button = view.findViewById(R.id.pause)
    private val second: Button = view.findViewById(R.id.stop)
    private var shown = ""

    init {
        view.findViewById<View>(R.id.save).setOnClickListener { actions.save(shown) }
        view.findViewById<View>(R.id.share).setOnClickListener { actions.share(shown) }
        details.setOnClickListener { actions.showDetails() }
    }

    fun render(state: UiState) {
        val run = state.run ?: return
        shown = run.name
        message.render(state.message)
        name.say(context.getString(R.string.run_is_named, run.name, run.step, run.total))
        subject.say(words.subject(run.model, run.data))
        renderStatus(run)
        renderEnd(run)
        note.say(notes(run, state.notificationsOff))
        val stored = state.runs.find { it.name == run.name }?.takeIf { run.status.ended }
        result.show(stored?.hasAdapter == true)
        next.show(stored?.hasAdapter == true)
        // A run that failed at once has none. Of a finished one the words say what the figures did.
        val hasNumbers = run.steps.isNotEmpty() || !run.status.ended
        numbers.show(hasNumbers && !run.status.finished)
        charts.show(hasNumbers)
        renderNumbers(run)
        renderCharts(run)
        detailed.show(state.showDetails)
        details.unfold(state.showDetails, R.string.details, R.string.fewer_details)
        renderButtons(run, stored?.canResume == true)
    }

    /** What a failed run says begins with what to do. */
    private fun renderEnd(run: RunState) {
        val failure = run.failure?.takeIf { run.status == Status.FAILED }?.let { WhatToDo.of(it, context.getString(R.string.todo_start_again)) }
        todo.say(failure?.first)
        end.say(failure?.second ?: if (run.status.ended) words.end(run) else null)
    }

    private fun renderStatus(run: RunState) {
        status.say(words.title(run))
        val dot = context.getDrawable(R.drawable.dot)!!.mutate()
        dot.setTint(context.getColor(colour(run)))
        status.setCompoundDrawablesRelativeWithIntrinsicBounds(dot, null, null, null)
    }

    private fun colour(run: RunState) =
        when (run.status) {
            Status.TRAINING -> if (run.pauses.isEmpty()) R.color.good else R.color.warn
            Status.FAILED -> R.color.bad
            Status.INTERRUPTED, Status.STOPPING -> R.color.warn
            Status.DONE, Status.STOPPED_EARLY -> R.color.accent
            Status.PREPARING -> R.color.outline
        }

    private fun notes(run: RunState, notificationsOff: Boolean): String {
        val notes = mutableListOf<String>()
        if (run.status.finished) {
            words.errors(run)?.let { notes += it }
        } else {
            notes += run.warnings
            run.lowMemory?.let { notes += context.getString(R.string.low_memory, it) }
            run.checkpoint?.let { notes += context.getString(R.string.last_checkpoint, it) }
        }
        if (run.battery.saver && !run.status.ended) notes += context.getString(R.string.saver_on)
        if (notificationsOff && !run.status.ended) notes += context.getString(R.string.notifications_off)
        return notes.joinToString(" ")
    }

    private fun renderNumbers(run: RunState) {
        val unknown = context.getString(R.string.unknown_yet)
        step.say(if (run.total > 0) run.step.toString() else unknown)
        ofSteps.say(context.getString(R.string.of_steps, run.total).takeIf { run.total > 0 } ?: context.getString(R.string.steps))
        // The mean, as the loss of a single step is mostly that of its text.
        val window = smoothingWindow(run.steps.size)
        loss.say(if (run.steps.isEmpty()) unknown else words.loss(smooth(run.steps.map { it.loss }).last()))
        lossLabel.say(if (window > 1) context.getString(R.string.loss_mean, window) else context.getString(R.string.loss))
        progress.isIndeterminate = run.total == 0 && !run.status.ended
        progress.max = maxOf(1, run.total)
        progress.progress = run.step
        rate.render(run.tokensPerSecond?.let(words::rate) ?: unknown, R.string.stat_rate)
        live.show(!run.status.ended)
        val percent = run.percentLeft?.takeIf { !run.battery.plugged }
        val leftWords =
            when {
                percent == null -> context.getString(R.string.stat_left)
                percent > (run.battery.percent ?: 100.0) -> context.getString(R.string.stat_left_too_much)
                else -> context.getString(R.string.stat_left_battery, words.percentOf(percent))
            }
        left.render(run.secondsLeft?.let(words::duration) ?: unknown, leftWords)
        val overIdle = run.baselineBytes != null || run.steps.isEmpty()
        peak.render(run.peakBytes?.let(words::megabytes) ?: unknown, if (overIdle) R.string.stat_peak else R.string.stat_peak_absolute)
        warmth.render(run.warmth.celsius?.let(words::celsius) ?: unknown, words.thermal(run.warmth.thermal))
    }

    private fun renderCharts(run: RunState) {
        val lossWords = legend.loss(run)
        lossLegend.say(lossWords.ifEmpty { context.getString(R.string.after_first_step) })
        lossChart.show(run)
        lossChart.contentDescription =
            if (lossWords.isEmpty()) context.getString(R.string.chart_loss_empty)
            else context.getString(R.string.chart_loss_says, plain(lossWords))
        val memoryWords = legend.memory(run)
        memoryLegend.say(memoryWords.ifEmpty { context.getString(R.string.after_first_step) })
        memoryChart.show(run)
        memoryChart.contentDescription =
            if (memoryWords.isEmpty()) context.getString(R.string.chart_memory_empty)
            else context.getString(R.string.chart_memory_says, plain(memoryWords), words.megabytes(run.peakBytes ?: 0))
    }

    /** A legend without its marks, for TalkBack. */
    private fun plain(legend: CharSequence) = legend.split("    ").joinToString(", ") { it.removePrefix("\u25CF\u00A0").replace('\u00A0', ' ') }

    private fun renderButtons(run: RunState, canResume: Boolean) {
        when {
            run.status.ended -> {
                button(first, R.string.new_run, actions::newRun)
                button(second, R.string.resume) { actions.resume(run.name) }
                second.show(canResume)
            }
            else -> {
                if (Pause.USER in run.pauses) button(first, R.string.continue_run, actions::goOn)
                else button(first, R.string.pause, actions::pause)
                button(second, R.string.stop, actions::stop)
                second.show(true)
            }
        }
        first.show(run.status != Status.STOPPING)
        second.isEnabled = run.status != Status.STOPPING
    }

    private fun button(button: Button, text: Int, act: () -> Unit) {
        button.setText(text)
        button.setOnClickListener { act() }
    }

    private fun text(id: Int): TextView = view.findViewById(id)

    /** A number and what it is, read by TalkBack as one. */
    private class Stat(private val view: View) {
        private val value: TextView = view.findViewById(R.id.value)
        private val label: TextView = view.findViewById(R.id.label)

        fun render(number: String, what: Int) = render(number, view.context.getString(what))

        fun render(number: String, what: String) {
            value.say(number)
            label.say(what)
        }
    }
}
