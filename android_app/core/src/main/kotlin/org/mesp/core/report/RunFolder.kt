package org.mesp.core.report

import java.io.File
import kotlinx.serialization.KSerializer
import kotlinx.serialization.SerialName
import kotlinx.serialization.Serializable
import kotlinx.serialization.SerializationException
import kotlinx.serialization.json.JsonObject
import kotlinx.serialization.json.jsonObject
import org.mesp.core.JSON
import org.mesp.core.UsageException

// The folder of a run, read: the names of its files, and what a line of each log is.

internal const val RUN_JSON = "run.json"
internal const val REPORT_JSON = "report.json"
internal const val STEPS = "steps.jsonl"
internal const val EVALUATIONS = "eval.jsonl"
internal const val MEMORY = "memory.jsonl"
internal val LOGS = listOf(STEPS, EVALUATIONS, MEMORY)

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

/** One of a folder's JSON files, null if it is not there. */
internal fun readJson(file: File): JsonObject? =
    try {
        if (file.isFile) JSON.parseToJsonElement(file.readText()).jsonObject else null
    } catch (error: SerializationException) {
        throw UsageException("$file is damaged (${error.message?.lineSequence()?.first()}). Start another run.", error)
    }

/** The lines of a log. The last line of a process that was killed may be cut short; it is left out. */
internal fun <T> readLines(file: File, serializer: KSerializer<T>): List<T> {
    if (!file.isFile) return emptyList()
    val text = file.readText()
    return text.substring(0, text.lastIndexOf('\n') + 1).lineSequence().filter(String::isNotEmpty).map { JSON.decodeFromString(serializer, it) }.toList()
}
