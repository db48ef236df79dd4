package org.mesp.core

import java.io.File
import kotlinx.serialization.SerialName
import kotlinx.serialization.Serializable

/** What a step came to: a line of steps.jsonl. */
@Serializable
data class Step(
    val step: Int,
    val loss: Double,
    val lr: Double,
    @SerialName("grad_norm") val gradNorm: Double,
    val tokens: Int,
    val seconds: Double,
    @SerialName("peak_footprint_bytes") val peakFootprintBytes: Long,
)

/** The mean loss over the held-out targets: a line of eval.jsonl. Step 0 is before training. */
@Serializable
data class Evaluation(val step: Int, val loss: Double, val seconds: Double)

/** The largest memory sample of a phase: a line of memory.jsonl. */
@Serializable
data class Sample(
    val seconds: Double,
    val phase: String,
    @SerialName("footprint_bytes") val footprintBytes: Long,
    @SerialName("rss_bytes") val rssBytes: Long,
)

/** Hears of a run's progress, on the thread that trains; this one does nothing. */
interface Listener {
    /** The data is read; [first] steps were done by the run that is resumed, 0 for a new one, of [steps] in all. */
    fun begin(first: Int, steps: Int, dataset: Dataset) = Unit

    fun stepped(step: Step) = Unit

    fun evaluated(evaluation: Evaluation) = Unit

    /** The largest samples of the phases that ended, after each step. */
    fun sampled(samples: List<Sample>) = Unit

    fun checkpointed(folder: File) = Unit
}
