package org.mesp.core.report

import java.io.File
import kotlinx.serialization.json.Json
import kotlinx.serialization.json.JsonElement
import kotlinx.serialization.json.JsonNull
import kotlinx.serialization.json.JsonObject
import kotlinx.serialization.json.JsonPrimitive
import kotlinx.serialization.json.buildJsonObject
import kotlinx.serialization.json.encodeToJsonElement
import kotlinx.serialization.json.put
import org.mesp.core.MespException
import org.mesp.core.data.Dataset
import org.mesp.core.engine.Bundle
import org.mesp.core.memory.Sampler
import org.mesp.core.writeJson

// What a run came to: report.json. It is worked out from the run's logs, so that a run that was resumed is reported as a whole. Its fields are in
// runtime/contract/report.schema.json.

internal val FINISHED = setOf("done", "stopped_early")

/** The losses and the speed, by the logs in [run]. [bestStep]: whose adapter RUN/adapter holds, where that was chosen among several evaluations. */
internal fun outcome(status: String, run: File, bestStep: Int?): JsonObject {
    val steps = Steps()
    forEachLine(File(run, STEPS), Step.serializer(), steps::add)
    val told = setOf(0, bestStep ?: steps.last?.step)
    val losses = HashMap<Int, Double>()
    forEachLine(File(run, EVALUATIONS), Evaluation.serializer()) { if (it.step in told) losses[it.step] = it.loss }
    val after = if (status in FINISHED && steps.last != null) losses[bestStep ?: steps.last?.step] else null
    return buildJsonObject {
        put("status", status)
        put("steps", steps.seconds.size)
        put("loss_first", steps.first?.loss)
        put("loss_last", steps.last?.loss)
        put("eval_loss_before", losses[0])
        put("eval_loss_after", after)
        put("best_step", bestStep)
        put("best_eval_loss", bestStep?.let(losses::get))
        put("step_seconds_median", steps.seconds.median())
        put("step_major_faults_median", steps.majorFaults.median())
        put("tokens_per_second", if (steps.last == null) null else steps.tokens / steps.seconds.sum())
    }
}

/** What is told of all steps, without holding them. */
private class Steps {
    var first: Step? = null
    var last: Step? = null
    var tokens = 0L
    val seconds = ArrayList<Double>()
    val majorFaults = ArrayList<Double>()

    fun add(step: Step) {
        first = first ?: step
        last = step
        tokens += step.tokens
        seconds.add(step.seconds)
        majorFaults.add(step.majorFaults.toDouble())
    }
}

/** The memory of this process, what was left out of the data, the device, and the bundle. */
internal fun surroundings(bundle: Bundle, data: Dataset, sampler: Sampler, environment: JsonObject): JsonObject =
    buildJsonObject {
        put("memory", memory(sampler, bundle.manifest.lora.bytes))
        put("cut_rows", data.cutRows)
        put("cut_tokens", data.cutTokens)
        put("masked_rows", data.maskedRows)
        put("environment", environment)
        put("bundle", bundleJson(bundle))
    }

/** The memory report, or why there is none: training is not lost because its measurement is. */
private fun memory(sampler: Sampler, leastBytes: Long): JsonElement =
    try {
        Json.encodeToJsonElement(sampler.report(leastBytes))
    } catch (error: MespException) {
        buildJsonObject { put("refused", error.message) }
    }

/** What a bundle is, for run.json and report.json. */
internal fun bundleJson(bundle: Bundle): JsonObject {
    val manifest = bundle.manifest
    return buildJsonObject {
        put("path", bundle.path.path)
        put("model", manifest.model.origin)
        put("plan", manifest.plan)
        put("sha256", JsonObject(manifest.files.mapValues { JsonPrimitive(it.value.sha256) }))
    }
}

/**
 * Writes a report.json of a run that failed outside of its loop: the reason, and what its logs tell. A report that has the reason already says
 * more and stays, and so does the report of a run that is finished.
 */
fun writeFailure(output: File, reason: String, environment: JsonObject) {
    val file = File(output, REPORT_JSON)
    val before = runCatching { readJson(file) }.getOrNull()
    if (before != null && ((before["status"] as? JsonPrimitive)?.content in FINISHED || before["reason"] == JsonPrimitive(reason))) return
    output.mkdirs()
    val run = runCatching { readJson(File(output, RUN_JSON)) }.getOrNull()
    // Where a log is damaged, nothing is told of it.
    val known = runCatching { outcome("failed", output, null) }.getOrElse { outcome("failed", File(output, "absent"), null) }
    val report =
        buildJsonObject {
            known.forEach { (name, value) -> put(name, value) }
            put("reason", reason)
            put("memory", JsonObject(run?.get("baseline_footprint_bytes")?.let { mapOf("baseline_footprint_bytes" to it) } ?: emptyMap()))
            put("environment", environment)
            put("bundle", run?.get("bundle") ?: JsonNull)
        }
    writeJson(file, report)
}

private fun List<Double>.median(): Double? {
    if (isEmpty()) return null
    val sorted = sorted()
    val middle = size / 2
    return if (size % 2 == 1) sorted[middle] else (sorted[middle - 1] + sorted[middle]) / 2
}
