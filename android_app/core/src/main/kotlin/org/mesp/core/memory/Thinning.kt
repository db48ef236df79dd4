package org.mesp.core.memory

/**
 * Which samples are logged: all of the first steps, and then fewer, so that a run of many thousand steps has a log of hundreds of kilobytes.
 * runtime/contract/memory_sample.schema.json has the rule.
 */
internal class Thinning {
    private var largest: Sample? = null

    /** What to log of a step, counted from 1. */
    fun step(step: Int, samples: List<Sample>): List<Sample> = some(samples, isWhole(step), isTold(step))

    /** What to log of a sequence of the evaluation after a step; [done] of its [sequences] are done with it. */
    fun sequence(step: Int, done: Int, sequences: Int, samples: List<Sample>): List<Sample> =
        some(samples, step == 0 && done == 1, done == sequences && isTold(step))

    /** The largest sample since the last one that was logged, if there is one. */
    fun rest(): List<Sample> = listOfNotNull(largest).also { largest = null }

    private fun some(samples: List<Sample>, whole: Boolean, told: Boolean): List<Sample> {
        if (whole) return rest() + samples
        for (sample in samples) if (sample.footprintBytes > (largest?.footprintBytes ?: Long.MIN_VALUE)) largest = sample
        return if (told) rest() else emptyList()
    }

    private fun isWhole(step: Int) = step <= WHOLE_STEPS || step and (step - 1) == 0

    private fun isTold(step: Int): Boolean {
        var every = 1L
        while (step > every * EACH_STEP) every *= 10
        return step % every == 0L
    }

    companion object {
        const val WHOLE_STEPS = 32
        const val EACH_STEP = 1000
    }
}
