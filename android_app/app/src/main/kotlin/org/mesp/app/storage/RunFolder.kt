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
import org.mesp.app.state.withEvaluation
import org.mesp.app.state.withStep
import org.mesp.core.report.Evaluation
import org.mesp.core.report.Step

/** Reads a run's folder, also while the run goes on. A file that is missing or damaged tells nothing. */
class RunFolder(private val folder: File) {
    /** As many as are shown, up to this one. */
    fun steps(last: Int = Int.MAX_VALUE): List<Step> =
        lines("steps.jsonl", Step.serializer()) { steps, step -> if (step.step > last) steps else steps.withStep(step) }

    fun evaluations(last: Int = Int.MAX_VALUE): List<Evaluation> =
        lines("eval.jsonl", Evaluation.serializer()) { all, one -> if (one.step > last) all else all.withEvaluation(one) }

    val run: JsonObject? get() = json("run.json")
    val report: JsonObject? get() = json("report.json")

    /** The footprint before the first step. */
    val baselineBytes: Long? get() = run?.get("baseline_footprint_bytes")?.jsonPrimitive?.longOrNull

    val totalSteps: Int get() = (run?.get("settings") as? JsonObject)?.get("steps")?.jsonPrimitive?.intOrNull ?: 0

    /** Steps between evaluations, 0 where there are those before and after alone, null without any. */
    val evalEvery: Int?
        get() = run?.takeIf { it["eval_data"] is JsonObject }?.let { (it["settings"] as? JsonObject)?.get("eval_every")?.jsonPrimitive?.intOrNull ?: 0 }

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

    /** Reads a log line by line: that of a long run is longer than what is shown of it. */
    private fun <T> lines(name: String, serializer: KSerializer<T>, add: (List<T>, T) -> List<T>): List<T> {
        val file = File(folder, name).takeIf { it.isFile } ?: return emptyList()
        return file.useLines { lines -> lines.mapNotNull { parsed(serializer, it) }.fold(emptyList(), add) }
    }

    private fun <T> parsed(serializer: KSerializer<T>, line: String): T? =
        try {
            Json.decodeFromString(serializer, line)
        } catch (_: SerializationException) { // the last line of a killed run may be half written
            null
        }
}
