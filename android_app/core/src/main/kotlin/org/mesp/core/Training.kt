package org.mesp.core

import java.io.File
import kotlinx.serialization.json.Json
import kotlinx.serialization.json.JsonNull
import kotlinx.serialization.json.JsonObject
import kotlinx.serialization.json.JsonPrimitive
import kotlinx.serialization.json.buildJsonObject
import kotlinx.serialization.json.encodeToJsonElement
import kotlinx.serialization.json.jsonObject
import kotlinx.serialization.json.put

/** How a run is told what to do from another thread. */
interface Control {
    /** Asked before every sequence, on the thread that trains; may wait, for a pause. Yes ends the run with a checkpoint and a report. */
    fun stop(): Boolean = false

    /** Asked after every step: yes writes a checkpoint now. */
    fun checkpoint(): Boolean = false
}

/**
 * Fine-tunes a bundle's adapter, writes the run folder, and returns what its report.json holds; its "status" is "done", "stopped_early",
 * or "interrupted".
 *
 * @param bundle what `mesp export` made
 * @param output the run folder
 * @param environment what report.json says of the device
 * @param resume go on with the run in that folder, from its last checkpoint
 * @throws UsageException a setting, bundle, adapter or data file that cannot be used, or a resumed run with other ones
 * @throws MespException the loss is no longer finite, or the storage is full; logs and checkpoints until then are kept
 */
fun train(
    bundle: File,
    output: File,
    settings: TrainSettings,
    environment: JsonObject,
    listener: Listener = object : Listener {},
    control: Control = object : Control {},
    resume: Boolean = false,
): JsonObject {
    if (!resume) RunWriter.checkFree(output)
    val opened = Bundle.open(bundle)
    val (data, heldOut) = load(opened, settings)
    val identity = identity(opened, settings, data, heldOut, environment)
    if (resume) {
        RunWriter.reopen(output)
        checkSame(RunWriter.readJson(File(output, RUN_JSON)) ?: JsonObject(emptyMap()), identity)
        val report = RunWriter.readJson(File(output, REPORT_JSON))
        if (report != null && (report["status"] as? JsonPrimitive)?.content in FINISHED) return report
    }
    Library.check(opened) // loads the library, which is no part of what the run takes
    Sampler().use { sampler ->
        // The run's folder is made when nothing can fail any more: what is offloaded goes to where it will be.
        val scratch = generateSequence(output.absoluteFile, File::getParentFile).first(File::isDirectory)
        Run(opened, settings, data, heldOut, environment, sampler, listener, control, scratch).use { run ->
            val folder =
                if (resume) {
                    RunWriter.reopen(output)
                } else {
                    // With the idle footprint, so that a run that is killed can be reported against it, and the time that samples count from.
                    val start =
                        mapOf(
                            "baseline_footprint_bytes" to JsonPrimitive(sampler.baseline),
                            "sampled_since_epoch_seconds" to JsonPrimitive(sampler.sinceEpochSeconds),
                        )
                    RunWriter.create(output, JsonObject(identity + start))
                }
            return folder.use(run::everything)
        }
    }
}

private fun load(bundle: Bundle, settings: TrainSettings): Pair<Dataset, Dataset?> =
    loadData(
        File(settings.data),
        bundle.manifest.tokens,
        bundle.manifest.vocabulary,
        File(bundle.path, TOKENIZER),
        settings.packing,
        settings.evalData?.let(::File),
        settings.evalSplit,
        settings.seed,
    )

// --- What a run is: two runs that agree in this do the same --------------------------------------------------------------

// What may differ when a run is resumed. Paths may, because what they lead to is compared by its contents.
private val FREE = setOf("data", "eval_data", "adapter", "allow_other_base", "checkpoint_every", "keep_checkpoints", "threads")
private val EVERYTHING = Json { encodeDefaults = true }

private fun identity(bundle: Bundle, settings: TrainSettings, data: Dataset, heldOut: Dataset?, environment: JsonObject): JsonObject {
    val steps = settings.stepsOf(data.examples.size)
    val optimizer = settings.makeOptimizer(steps)
    val chosen = EVERYTHING.encodeToJsonElement(settings).jsonObject + mapOf("steps" to JsonPrimitive(steps), "lr" to JsonPrimitive(optimizer.lr.peak))
    val start = settings.adapter?.let { File(it, ADAPTER_WEIGHTS) }?.takeIf(File::isFile)
    return buildJsonObject {
        put("settings", JsonObject(chosen))
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

/** Refuses to go on with a run with other settings, bundle or data than it began with. */
private fun checkSame(before: JsonObject, now: JsonObject) {
    val found = ArrayList<String>()
    fun JsonObject.settings() = getValue("settings").jsonObject
    for ((name, value) in now.settings()) {
        if (name !in FREE && before.settings()[name] != value) found += "$name was ${before.settings()[name]} and is now $value"
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
