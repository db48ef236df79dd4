package org.mesp.app.state

import android.content.Context
import android.os.PowerManager
import java.util.Locale
import kotlin.math.abs
import kotlin.math.exp
import kotlin.math.roundToInt
import kotlin.math.roundToLong
import org.mesp.app.R
import org.mesp.app.phone.Ending

/** A run and its numbers in words. */
class Words(private val context: Context) {
    private val locale: Locale get() = context.resources.configuration.locales[0]

    fun title(run: RunState): String =
        when (run.status) {
            Status.PREPARING -> context.getString(R.string.preparing)
            Status.TRAINING -> pauses(run) ?: run.evaluating?.let(::evaluating) ?: context.getString(R.string.training)
            Status.STOPPING -> context.getString(R.string.stopping)
            Status.DONE -> context.getString(R.string.done)
            Status.STOPPED_EARLY -> context.getString(R.string.stopped_early)
            Status.INTERRUPTED -> context.getString(R.string.stopped)
            Status.FAILED -> context.getString(R.string.failed)
        }

    private fun evaluating(now: Evaluating) = context.getString(R.string.evaluating, now.done, now.sequences)

    private fun pauses(run: RunState): String? {
        if (run.pauses.isEmpty()) return null
        val reasons = run.pauses.joinToString(context.getString(R.string.and)) { context.getString(reason(it)) }
        return context.getString(if (run.waiting) R.string.paused else R.string.pausing, reasons)
    }

    private fun reason(pause: Pause) =
        when (pause) {
            Pause.USER -> R.string.paused_by_you
            Pause.HOT -> R.string.paused_hot
            Pause.NOT_CHARGING -> R.string.paused_not_charging
            Pause.LOW_BATTERY -> R.string.paused_low_battery
        }

    /** One line: where it is, its loss, its time. */
    fun progress(run: RunState): String {
        if (run.total == 0) return run.name
        val parts = mutableListOf(context.getString(R.string.step_of, run.step, run.total))
        run.steps.lastOrNull()?.let { parts += context.getString(R.string.loss_is, loss(it.loss)) }
        if (run.status == Status.TRAINING && run.pauses.isEmpty()) {
            run.secondsLeft?.let { parts += context.getString(R.string.time_left, duration(it)) }
        }
        return parts.joinToString(SEPARATOR)
    }

    /** How far a copy is. */
    fun import(copy: Import): String {
        val done = size(copy.done)
        return when {
            copy.name.isEmpty() -> context.getString(R.string.looking)
            copy.total == null -> context.getString(R.string.copying, copy.name, done)
            else -> context.getString(R.string.copying_of, copy.name, done, size(copy.total))
        }
    }

    /** What is trained on what. */
    fun subject(model: String?, data: String?): String? =
        if (model == null || data == null) model ?: data else context.getString(R.string.subject, model, data)

    /** What a run came to; of one that failed, first what to do. */
    fun end(run: RunState): String =
        when (run.status) {
            Status.FAILED -> WhatToDo.of(run.failure.orEmpty(), context.getString(R.string.todo_start_again)).let { "${it.first} ${it.second}".trim() }
            Status.INTERRUPTED -> stopped(run)
            else -> learnt(run)
        }

    private fun stopped(run: RunState): String =
        when {
            run.step == 0 -> context.getString(R.string.stopped_at_start)
            run.checkpoint == null -> context.getString(R.string.stopped_without, run.step, run.total)
            else -> context.getString(R.string.stopped_at, run.step, run.total)
        }

    private fun learnt(run: RunState): String {
        val gain = gain(run.heldOutBefore, run.heldOutAfter) ?: return context.getString(R.string.learnt_unknown, run.step)
        return when {
            gain < LEAST_GAIN -> context.getString(R.string.learnt_nothing)
            gain < MANY_TIMES -> context.getString(R.string.learnt, percent(gain))
            else -> context.getString(R.string.learnt_times, "%.1f".format(locale, gain))
        }
    }

    /** The errors that a finished run's words are about. */
    fun errors(run: RunState): String? {
        val before = run.heldOutBefore
        val after = run.heldOutAfter
        if (before != null && after != null) return context.getString(R.string.error_held_out, loss(before), loss(after))
        return run.steps.firstOrNull()?.let { context.getString(R.string.error_training, loss(it.loss), loss(run.steps.last().loss)) }
    }

    /** One line of what a run came to. */
    fun outcome(run: StoredRun): String {
        val gain = gain(run.before, run.after)
        return when {
            run.status == Status.FAILED -> context.getString(R.string.run_failed)
            run.status == Status.INTERRUPTED && run.total == 0 -> context.getString(R.string.run_stopped_unknown, run.step)
            run.status == Status.INTERRUPTED -> context.getString(R.string.run_stopped, run.step, run.total)
            gain == null -> context.getString(R.string.run_untested, run.step)
            gain < LEAST_GAIN -> context.getString(R.string.run_not_better)
            gain < MANY_TIMES -> context.getString(R.string.run_better, percent(gain))
            else -> context.getString(R.string.run_times_better, "%.1f".format(locale, gain))
        }
    }

    /** What is said of a run in the list. */
    fun facts(run: StoredRun): String = listOfNotNull(subject(run.model, run.data), outcome(run), size(run.bytes)).joinToString(SEPARATOR)

    /** How many times as probable the right next token became, in the geometric mean: the loss is the mean of its negative logarithm. */
    private fun gain(before: Double?, after: Double?): Double? = if (before == null || after == null) null else exp(before - after)

    private fun percent(gain: Double) = ((gain - 1) * 100).roundToInt()

    /** What a look into the data told; null if there is nothing to say. */
    fun note(note: DataNote): String? {
        if (note.problem != null) return note.problem
        if (note.notRead.isEmpty()) return null
        val names = note.notRead.take(MOST_NAMES).joinToString(", ") { "\"$it\"" }
        val more = note.notRead.size - MOST_NAMES
        return if (more > 0) context.getString(R.string.not_read_more, names, more) else context.getString(R.string.not_read, names)
    }

    /** What a run will take, in a line. */
    fun estimate(estimate: Estimate): String {
        val time = duration(estimate.seconds)
        return if (estimate.percent == null) context.getString(R.string.estimate, time) else context.getString(R.string.estimate_battery, time, percentOf(estimate.percent))
    }

    /** What the person should know before a run starts on the battery. */
    fun start(question: Question.Start): String {
        val (battery, least, estimate) = question
        val sentences = mutableListOf<String>()
        if (!battery.plugged) {
            sentences += battery.percent?.let { context.getString(R.string.ask_level, percentOf(it)) } ?: context.getString(R.string.ask_unplugged)
            if (battery.percent != null && battery.percent < least) sentences += context.getString(R.string.ask_now, percentOf(least.toDouble()))
            else if (least > 0) sentences += context.getString(R.string.ask_pauses, percentOf(least.toDouble()))
        }
        estimate?.let { sentences += estimate(it) }
        if (battery.saver) sentences += context.getString(R.string.saver_on)
        return sentences.joinToString(" ")
    }

    /** Why the process of a run ended. */
    fun ending(ending: Ending): String =
        context.getString(
            when (ending) {
                Ending.MEMORY -> R.string.ending_memory
                Ending.CRASH -> R.string.ending_crash
                Ending.STUCK -> R.string.ending_stuck
                Ending.PERSON -> R.string.ending_person
                Ending.TOO_MUCH -> R.string.ending_too_much
                Ending.SIGNAL -> R.string.ending_signal
                Ending.CHANGED -> R.string.ending_changed
                Ending.UNKNOWN -> R.string.ending_unknown
            }
        )

    fun percentOf(battery: Double): String =
        if (battery < 1 && battery > 0) context.getString(R.string.percent_less) else context.getString(R.string.percent, battery.roundToInt())

    fun loss(value: Double): String = "%.3f".format(locale, value)

    /** Whole numbers from ten on: more digits would only flicker. */
    fun rate(value: Double): String = if (value >= 10) "%d".format(locale, value.roundToLong()) else "%.1f".format(locale, value)

    /** Megabytes of 10^6 bytes, as in the host's reports. */
    fun megabytes(bytes: Long): String = context.getString(R.string.megabytes, "%.1f".format(locale, bytes / 1e6))

    fun size(bytes: Long): String =
        when {
            abs(bytes) >= 1e9 -> context.getString(R.string.gigabytes, "%.1f".format(locale, bytes / 1e9))
            abs(bytes) >= 1e6 -> context.getString(R.string.megabytes, "%.0f".format(locale, bytes / 1e6))
            else -> context.getString(R.string.kilobytes, "%.0f".format(locale, bytes / 1e3))
        }

    fun duration(seconds: Double): String {
        val whole = seconds.roundToInt()
        return when {
            whole < 90 -> context.getString(R.string.seconds, whole)
            whole < 90 * 60 -> context.getString(R.string.minutes, (whole + 30) / 60)
            else -> context.getString(R.string.hours_minutes, whole / 3600, whole % 3600 / 60)
        }
    }

    fun celsius(value: Double): String = context.getString(R.string.celsius, "%.1f".format(locale, value))

    fun thermal(status: Int?): String =
        when (status) {
            null -> context.getString(R.string.battery)
            PowerManager.THERMAL_STATUS_NONE -> context.getString(R.string.thermal_none)
            PowerManager.THERMAL_STATUS_LIGHT -> context.getString(R.string.thermal_light)
            PowerManager.THERMAL_STATUS_MODERATE -> context.getString(R.string.thermal_moderate)
            PowerManager.THERMAL_STATUS_SEVERE -> context.getString(R.string.thermal_severe)
            else -> context.getString(R.string.thermal_critical)
        }

    fun bundle(bundle: StoredBundle): String {
        val manifest = bundle.manifest ?: return context.getString(R.string.bundle_unreadable)
        val tokens = context.getString(R.string.bundle_facts, manifest.weights, manifest.tokens, manifest.rank)
        // No line begins with a dot, or with the unit of the number before.
        return listOf(manifest.model, tokens, size(bundle.bytes).replace(' ', '\u00A0')).joinToString("\u00A0· ")
    }

    companion object {
        const val SEPARATOR = " · "

        private const val MOST_NAMES = 6

        /** Less than this is no better, and from the other on "times" is said instead of "percent". */
        private const val LEAST_GAIN = 1.005
        private const val MANY_TIMES = 2.5
    }
}
