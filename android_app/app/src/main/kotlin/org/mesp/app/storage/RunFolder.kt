package org.mesp.app.storage

import java.io.File
import kotlinx.serialization.KSerializer
import kotlinx.serialization.SerializationException
import kotlinx.serialization.json.Json
import kotlinx.serialization.json.JsonObject
import kotlinx.serialization.json.intOrNull
import kotlinx.serialization.json.jsonObject
import kotlinx.serialization.json.jsonPrimitive
import kotlinx.serialization.json.longOrNull
import org.mesp.app.state.RunState
import org.mesp.app.state.Status
import org.mesp.app.state.text
import org.mesp.core.report.Evaluation
import org.mesp.core.report.Step

/** Reads a run's folder, also while the run goes on. A file that is missing or damaged tells nothing. */
class RunFolder(private val folder: File) {
    fun steps(): List<Step> = lines("steps.jsonl", Step.serializer())

    fun evaluations(): List<Evaluation> = lines("eval.jsonl", Evaluation.serializer())

    val run: JsonObject? get() = json("run.json")
    val report: JsonObject? get() = json("report.json")

    /** The footprint before the first step. */
    val baselineBytes: Long? get() = run?.get("baseline_footprint_bytes")?.jsonPrimitive?.longOrNull

    val totalSteps: Int get() = (run?.get("settings") as? JsonObject)?.get("steps")?.jsonPrimitive?.intOrNull ?: 0

    /** The step of the last checkpoint. */
    val checkpoint: Int?
        get() = File(folder, "checkpoints").list().orEmpty().mapNotNull { it.removePrefix("step-").toIntOrNull() }.maxOrNull()

    /** The checkpoint's name. */
    val model: String? get() = (run?.get("bundle") as? JsonObject)?.text("model")?.let(::modelName)

    /** The data file's name. */
    val data: String? get() = (run?.get("settings") as? JsonObject)?.text("data")?.substringAfterLast('/')

    /** The folder of the result, null where there is none. */
    val adapter: File? get() = File(folder, "adapter").takeIf { it.isDirectory }

    /** The run as its screen shows it. One without a report was ended from outside. */
    fun state(): RunState {
        val report = report
        val status = report?.text("status")
        return RunState(
            name = folder.name,
            model = model,
            data = data,
            status = if (status == null) Status.INTERRUPTED else Status.of(status),
            total = totalSteps,
            steps = steps(),
            evaluations = evaluations(),
            baselineBytes = baselineBytes,
            checkpoint = checkpoint,
            failure = report?.text("reason"),
        )
    }

    private fun json(name: String): JsonObject? =
        try {
            File(folder, name).takeIf { it.isFile }?.let { Json.parseToJsonElement(it.readText()).jsonObject }
        } catch (_: IllegalArgumentException) {
            null
        }

    private fun <T> lines(name: String, serializer: KSerializer<T>): List<T> {
        val file = File(folder, name).takeIf { it.isFile } ?: return emptyList()
        return file.readLines().mapNotNull {
            try {
                Json.decodeFromString(serializer, it)
            } catch (_: SerializationException) { // the last line of a killed run may be half written
                null
            }
        }
    }
}
