package org.mesp.app.state

import org.mesp.app.phone.Battery
import org.mesp.app.phone.Warmth
import org.mesp.core.memory.Sample
import org.mesp.core.report.Evaluation
import org.mesp.core.report.Step

/** Why a run waits. */
enum class Pause { USER, HOT, NOT_CHARGING, LOW_BATTERY }

enum class Status {
    /** Bundle and data are read. */
    PREPARING,
    TRAINING,

    /** Asked to stop: the sequence that is under way is finished, and a checkpoint written. */
    STOPPING,
    DONE,
    STOPPED_EARLY,
    INTERRUPTED,
    FAILED;

    val ended get() = this >= DONE

    /** It has come to its end, and left a result. */
    val finished get() = this == DONE || this == STOPPED_EARLY

    companion object {
        /** Of a report's "status". */
        fun of(report: String?) =
            when (report) {
                "done" -> DONE
                "stopped_early" -> STOPPED_EARLY
                "interrupted" -> INTERRUPTED
                else -> FAILED
            }
    }
}

/** An evaluation under way: [done] of its [sequences], each of which took so long, which is not known of the first. */
data class Evaluating(val done: Int, val sequences: Int, val secondsEach: Double?)

/**
 * A run as far as it came.
 *
 * @param model and [data] what it trains on, by their names
 * @param pauses why it is to wait
 * @param waiting the training thread does wait; until then it finishes a sequence
 * @param total steps of the run, 0 until that is known
 * @param evalEvery steps between evaluations, 0 where there are those before and after alone, null without any
 * @param evaluating the evaluation that is under way
 * @param trace the largest memory sample of each phase of the last step
 * @param baselineBytes the footprint before the first step, null where it is not known
 * @param checkpoint the step of the last checkpoint
 * @param warnings what to know of the memory that there was when it began
 * @param lowMemory the step at which Android last said that memory is short
 * @param percentAStep what a step takes of the battery, null where it is not measured
 * @param failure why it failed
 */
data class RunState(
    val name: String,
    val model: String? = null,
    val data: String? = null,
    val status: Status = Status.PREPARING,
    val pauses: Set<Pause> = emptySet(),
    val waiting: Boolean = false,
    val total: Int = 0,
    val evalEvery: Int? = null,
    val evaluating: Evaluating? = null,
    val steps: List<Step> = emptyList(),
    val evaluations: List<Evaluation> = emptyList(),
    val trace: List<Sample> = emptyList(),
    val baselineBytes: Long? = null,
    val checkpoint: Int? = null,
    val warnings: List<String> = emptyList(),
    val lowMemory: Int? = null,
    val warmth: Warmth = Warmth(),
    val battery: Battery = Battery(),
    val percentAStep: Double? = null,
    val failure: String? = null,
) {
    val step: Int get() = steps.lastOrNull()?.step ?: 0

    /** The error on what was kept aside, before the first step, null without such a part. */
    val heldOutBefore: Double? get() = evaluations.firstOrNull { it.step == 0 }?.loss

    /** The same for the adapter that a finished run leaves: of the best evaluation where there were several, else of the last. */
    val heldOutAfter: Double? get() = evaluations.filter { it.step > 0 }.minOfOrNull { it.loss }

    /** Of the last steps. */
    val tokensPerSecond: Double?
        get() = recent().takeIf { it.isNotEmpty() }?.let { last -> last.sumOf { it.tokens } / last.sumOf { it.seconds } }

    /** At the pace of the last steps and of the last evaluation, without pauses to come; null before the first step. */
    val secondsLeft: Double?
        get() = recent().takeIf { it.isNotEmpty() && total > 0 }?.let { (total - step) * it.sumOf(Step::seconds) / it.size + evaluationSecondsLeft }

    private val evaluationSecondsLeft: Double
        get() = evaluationsLeft * (evaluations.lastOrNull()?.seconds ?: 0.0) + (evaluating?.run { (sequences - done) * (secondsEach ?: 0.0) } ?: 0.0)

    /** Evaluations that have not begun. */
    private val evaluationsLeft: Int
        get() {
            if (evalEvery == null || step >= total) return 0
            return 1 + if (evalEvery > 0) (total - 1) / evalEvery - step / evalEvery else 0
        }

    /** What is left will take so much of the battery; an evaluation as its time is worth in steps. */
    val percentLeft: Double?
        get() {
            val seconds = secondsLeft ?: return null
            return percentAStep?.let { it * seconds / (recent().sumOf(Step::seconds) / recent().size) }
        }

    /** The largest footprint so far, over idle where that is known. */
    val peakBytes: Long?
        get() = steps.maxOfOrNull { it.peakFootprintBytes }?.let { it - (baselineBytes ?: 0) }

    private fun recent() = steps.takeLast(10)
}
