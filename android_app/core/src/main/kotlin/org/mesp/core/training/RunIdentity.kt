package org.mesp.core.training

import java.io.File
import kotlinx.serialization.json.Json
import kotlinx.serialization.json.JsonElement
import kotlinx.serialization.json.JsonNull
import kotlinx.serialization.json.JsonObject
import kotlinx.serialization.json.JsonPrimitive
import kotlinx.serialization.json.buildJsonObject
import kotlinx.serialization.json.doubleOrNull
import kotlinx.serialization.json.encodeToJsonElement
import kotlinx.serialization.json.jsonObject
import kotlinx.serialization.json.put
import org.mesp.core.UsageException
import org.mesp.core.data.Dataset
import org.mesp.core.engine.Bundle
import org.mesp.core.report.bundleJson
import org.mesp.core.sha256

// What a run is, for run.json: two runs that agree in this do the same.

// What may differ when a run is resumed. Paths may, because what they lead to is compared by its contents.
internal val FREE = setOf("data", "eval_data", "map", "adapter", "allow_other_base", "checkpoint_every", "keep_checkpoints", "threads", "find_threads")
private val EVERYTHING = Json { encodeDefaults = true }

internal fun identity(bundle: Bundle, settings: TrainSettings, data: Dataset, heldOut: Dataset?, environment: JsonObject): JsonObject {
    val steps = settings.stepsOf(data.examples.size)
    val optimizer = settings.makeOptimizer(steps)
    val chosen = EVERYTHING.encodeToJsonElement(settings).jsonObject + mapOf("steps" to JsonPrimitive(steps), "lr" to JsonPrimitive(optimizer.lr.peak))
    val start = settings.adapter?.let { File(it, ADAPTER_WEIGHTS) }?.takeIf(File::isFile)
    return buildJsonObject {
        put("settings", JsonObject(chosen))
        put("steps_follow_from_epochs", settings.steps == null)
        put("bundle", bundleJson(bundle))
        put("data", dataJson(data))
        put("eval_data", heldOut?.let(::dataJson) ?: JsonNull)
        put("adapter_sha256", start?.let(::sha256))
        put("versions", environment)
    }
}

private fun dataJson(data: Dataset) =
    buildJsonObject {
        put("examples", data.examples.size)
        put("sha256", data.fingerprint)
    }

/** Whether two settings are equal. Numbers are compared as numbers: the two runtimes write 2e-05 and 2.0E-5. */
private fun same(one: JsonElement?, other: JsonElement): Boolean {
    val numbers = listOf(one, other).map { (it as? JsonPrimitive)?.takeIf { primitive -> !primitive.isString }?.doubleOrNull }
    return if (null in numbers) one == other else numbers[0] == numbers[1]
}

/** Refuses to go on with a run with other settings, bundle or data than it began with. */
internal fun checkSame(before: JsonObject, now: JsonObject) {
    val found = ArrayList<String>()
    fun JsonObject.settings() = getValue("settings").jsonObject
    for ((name, value) in now.settings()) {
        if (name !in FREE && !same(before.settings()[name], value)) found += "$name was ${before.settings()[name]} and is now $value"
    }
    fun JsonObject.hashes() = getValue("bundle").jsonObject.getValue("sha256").jsonObject
    for ((name, digest) in now.hashes()) if (before.hashes()[name] != digest) found += "$name of the bundle has changed"
    for ((key, what) in listOf("data" to "the data", "eval_data" to "the held-out data", "adapter_sha256" to "the adapter")) {
        if (before[key] != now[key]) found += "$what has other contents"
    }
    if (found.isNotEmpty()) {
        throw UsageException(
            "This is not the run that was interrupted: ${found.joinToString("; ")}. Resume with what it was started with, or start another run.",
        )
    }
}
