package org.mesp.core

import java.io.File
import kotlinx.serialization.json.JsonObject

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
): JsonObject = TODO("the run")

/** Leaves `{"status": "failed", "reason": …}` in a run's report.json, with what its logs tell; for what [train] threw. */
fun writeFailure(output: File, reason: String, environment: JsonObject): Unit = TODO("the report of a failure")
