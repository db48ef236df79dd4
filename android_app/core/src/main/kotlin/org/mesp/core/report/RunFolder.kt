package org.mesp.core.report

import java.io.File
import java.io.RandomAccessFile
import kotlinx.serialization.EncodeDefault
import kotlinx.serialization.ExperimentalSerializationApi
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

/** Held while a run is written to. Hidden files are no part of a run. */
internal const val LOCK = ".lock"

/** What a step came to: a line of steps.jsonl. */
@OptIn(ExperimentalSerializationApi::class)
@Serializable
data class Step(
    val step: Int,
    val loss: Double,
    val lr: Double,
    @SerialName("grad_norm") val gradNorm: Double,
    val tokens: Int,
    val seconds: Double,
    @SerialName("peak_footprint_bytes") val peakFootprintBytes: Long,
    // Runs of an earlier version have none.
    @EncodeDefault @SerialName("major_faults") val majorFaults: Long = 0,
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

/**
 * Tells the lines of a log one by one: of a long run they are many. The last line of a process that was killed may be cut short; it is left
 * out, as is an absent file.
 */
fun <T> forEachLine(file: File, serializer: KSerializer<T>, receive: (T) -> Unit) {
    if (!file.isFile || file.length() == 0L) return
    var held: String? = null
    file.useLines { lines ->
        for (line in lines) {
            held?.let { receive(JSON.decodeFromString(serializer, it)) }
            held = line
        }
    }
    if (tail(file).last() == FEED) held?.let { receive(JSON.decodeFromString(serializer, it)) }
}

/** The last whole line of a log, without the others being read; null where there is none. */
internal fun <T> lastLine(file: File, serializer: KSerializer<T>): T? {
    if (!file.isFile) return null
    val line = tail(file).decodeToString().substringBeforeLast('\n', "").substringAfterLast('\n')
    return line.takeIf(String::isNotEmpty)?.let { JSON.decodeFromString(serializer, it) }
}

/** The end of a file, longer than a line of a log. */
private fun tail(file: File): ByteArray =
    RandomAccessFile(file, "r").use {
        it.seek(maxOf(0, it.length() - LONGEST_LINE))
        ByteArray((it.length() - it.filePointer).toInt()).also(it::readFully)
    }

private const val LONGEST_LINE = 1 shl 16
private const val FEED = '\n'.code.toByte()
