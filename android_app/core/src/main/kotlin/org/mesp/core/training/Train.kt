package org.mesp.core.training

import java.io.File
import java.time.LocalDateTime
import java.time.format.DateTimeFormatter
import kotlinx.serialization.json.JsonObject
import kotlinx.serialization.json.JsonPrimitive
import org.mesp.core.MespException
import org.mesp.core.data.Dataset
import org.mesp.core.data.loadData
import org.mesp.core.engine.Bundle
import org.mesp.core.engine.Library
import org.mesp.core.engine.TOKENIZER
import org.mesp.core.memory.Sampler
import org.mesp.core.memory.SystemMemory
import org.mesp.core.report.FINISHED
import org.mesp.core.report.REPORT_JSON
import org.mesp.core.report.RUN_JSON
import org.mesp.core.report.readJson

/**
 * Fine-tunes a bundle's adapter, writes the run folder, and returns what its report.json holds; its "status" is "done", "stopped_early",
 * or "interrupted".
 *
 * @param bundle what `mesp export` made
 * @param output the run folder
 * @param environment what report.json says of the device
 * @param resume go on with the run in that folder, from its last checkpoint
 * @param there what memory the machine has; null where that is not known
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
    there: SystemMemory? = SystemMemory.now(),
): JsonObject {
    if (!resume) {
        RunWriter.checkFree(output)
        return begin(bundle, output, settings, environment, listener, control, there, null)
    }
    return RunWriter.reopen(output).use { begin(bundle, output, settings, environment, listener, control, there, it) }
}

/** [interrupted] is the folder of a run to go on with; null makes a new one. */
private fun begin(
    bundle: File,
    output: File,
    settings: TrainSettings,
    environment: JsonObject,
    listener: Listener,
    control: Control,
    there: SystemMemory?,
    interrupted: RunWriter?,
): JsonObject {
    val opened = Bundle.open(bundle)
    val before = interrupted?.let { readJson(File(output, RUN_JSON)) }
    // A template that writes the date writes that of the run's start, also when it is resumed on another day.
    val started = (before?.get("started") as? JsonPrimitive)?.content?.let(LocalDateTime::parse) ?: LocalDateTime.now()
    val (data, heldOut) = loadExamples(opened, settings, started, control)
    val identity = identity(opened, settings, data, heldOut, environment)
    if (interrupted != null) {
        checkSame(before ?: JsonObject(emptyMap()), identity)
        val report = readJson(File(output, REPORT_JSON))
        if (report != null && (report["status"] as? JsonPrimitive)?.content in FINISHED) return report
    }
    Library.check(opened) // loads the library, which is no part of what the run takes
    Sampler().use { sampler ->
        // The run's folder is made when nothing can fail any more. Until then its parent takes what is offloaded.
        val scratch = generateSequence(output.absoluteFile, File::getParentFile).first(File::isDirectory)
        TrainingLoop(opened, settings, data, heldOut, environment, sampler, listener, control, there, scratch).use { loop ->
            val folder =
                interrupted ?: run {
                    // With the idle footprint and what the run will take, so that a run that is killed can be reported too, and the time that
                    // samples count from.
                    val start =
                        mapOf(
                            "started" to JsonPrimitive(started.format(SECONDS)),
                            "planned_bytes" to JsonObject(loop.plannedBytes.mapValues { JsonPrimitive(it.value) }),
                            "baseline_footprint_bytes" to JsonPrimitive(sampler.baseline),
                            "sampled_since_epoch_seconds" to JsonPrimitive(sampler.sinceEpochSeconds),
                        )
                    RunWriter.create(output, JsonObject(identity + start))
                }
            return folder.use(loop::run)
        }
    }
}

private fun loadExamples(bundle: Bundle, settings: TrainSettings, started: LocalDateTime, control: Control): Pair<Dataset, Dataset?> =
    loadData(
        File(settings.data),
        bundle.manifest.tokens,
        bundle.manifest.model.vocabulary,
        File(bundle.path, TOKENIZER),
        settings.packing,
        settings.evalData?.let(::File),
        settings.evalSplit,
        settings.seed,
        settings.map,
        started,
    ) {
        if (control.stopReading()) throw MespException("Stopped while the data was read. Nothing is lost: start it again.")
    }

/** As the host writes the time; Java's own format leaves seconds of 0 out. */
private val SECONDS = DateTimeFormatter.ofPattern("yyyy-MM-dd'T'HH:mm:ss")
