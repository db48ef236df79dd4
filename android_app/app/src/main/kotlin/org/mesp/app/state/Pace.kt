package org.mesp.app.state

import kotlin.math.max
import kotlinx.serialization.Serializable
import kotlinx.serialization.json.JsonObject
import kotlinx.serialization.json.doubleOrNull
import kotlinx.serialization.json.jsonPrimitive

/**
 * How fast a bundle trains on this phone, by its last run.
 *
 * @param sequenceSeconds of a step, for each of its sequences
 * @param evaluationSeconds of one evaluation, null where there was none
 * @param sequencePercent of the battery, for each sequence; null where it was not measured
 */
@Serializable
data class Pace(val sequenceSeconds: Double, val evaluationSeconds: Double? = null, val sequencePercent: Double? = null) {
    /** What a run with these settings will take; null where it is as long as the text, whose length is not known yet. */
    fun estimate(settings: JsonObject): Estimate? {
        val steps = settings.number("steps")?.toInt() ?: return null
        val sequences = steps * (settings.number("grad_accumulation") ?: 1.0)
        val every = settings.number("eval_every")?.toInt()
        val between = if (every == null || every < 1) 0 else max(0, (steps - 1) / every)
        val evaluations = if (settings.number("eval_split") == null) 0 else 2 + between
        val seconds = sequences * sequenceSeconds + evaluations * (evaluationSeconds ?: 0.0)
        // An evaluation is counted as its time is worth in steps.
        return Estimate(seconds, sequencePercent?.let { it * seconds / sequenceSeconds })
    }

    private fun JsonObject.number(key: String) = this[key]?.jsonPrimitive?.doubleOrNull

    companion object {
        /** Of a run that took steps, else null. */
        fun of(run: RunState, sequencesAStep: Int): Pace? {
            val steps = run.steps.takeLast(10).ifEmpty { return null }
            val seconds = steps.sumOf { it.seconds } / steps.size / sequencesAStep
            return Pace(seconds, run.evaluations.lastOrNull()?.seconds, run.percentAStep?.let { it / sequencesAStep })
        }
    }
}

/** What a run will take; [percent] of the battery, null where it is not known. */
data class Estimate(val seconds: Double, val percent: Double?)
