package org.mesp.core.training

import java.io.File
import java.io.IOException
import java.nio.FloatBuffer
import kotlinx.serialization.SerialName
import kotlinx.serialization.Serializable
import kotlinx.serialization.SerializationException
import kotlinx.serialization.json.encodeToJsonElement
import org.mesp.core.JSON
import org.mesp.core.MespException
import org.mesp.core.UsageException
import org.mesp.core.engine.Manifest
import org.mesp.core.engine.TensorPart
import org.mesp.core.engine.readLayout
import org.mesp.core.engine.readTensors
import org.mesp.core.engine.writeTensors
import org.mesp.core.folderThatAppearsWhole
import org.mesp.core.writeJson

// A checkpoint is everything that a run needs to go on as if it had never stopped. RUN/checkpoints/step-N is complete or absent. The Python
// runtime can read it too:
//
//     adapter_config.json, adapter_model.safetensors    the adapter, as PEFT loads it
//     optimizer.safetensors                             the optimizer's state, if it has one
//     trainer_state.json                                where the run is

private const val OPTIMIZER_FILE = "optimizer.safetensors"
private const val STATE_FILE = "trainer_state.json"
private val STEP = Regex("step-(\\d+)")

/**
 * Where a run is.
 *
 * @param evaluatedStep the step of the last evaluation, -1 for none
 * @param bestStep of the best evaluation after a step of training
 * @param worse evaluations in a row that were not better than it
 * @param logBytes length of each log of the run folder at that moment
 */
@Serializable
data class Position(
    val step: Int = 0,
    @SerialName("evaluated_step") val evaluatedStep: Int = -1,
    @SerialName("best_step") val bestStep: Int? = null,
    @SerialName("best_loss") val bestLoss: Double? = null,
    val worse: Int = 0,
    @SerialName("log_bytes") val logBytes: Map<String, Long> = emptyMap(),
)

/** The checkpoints of a folder by step, oldest first. */
fun checkpoints(folder: File): Map<Int, File> =
    folder
        .listFiles()
        .orEmpty()
        .mapNotNull { file -> STEP.matchEntire(file.name)?.let { it.groupValues[1].toInt() to file } }
        .sortedBy { it.first }
        .toMap()

/** Writes `folder/step-N` and returns it. [state] is the session's. */
internal fun writeCheckpoint(
    folder: File,
    manifest: Manifest,
    state: Map<String, FloatBuffer>,
    scaling: Scaling,
    position: Position,
): File {
    val path = File(folder, "step-${position.step}")
    folderThatAppearsWhole(path) { new ->
        writePeft(new, manifest.lora, state.getValue(manifest.lora.state), scaling, manifest.model.origin)
        val moments = moments(manifest, state)
        if (moments.isNotEmpty()) writeTensors(File(new, OPTIMIZER_FILE), moments)
        writeJson(File(new, STATE_FILE), CHECKPOINT_JSON.encodeToJsonElement(position))
    }
    return path
}

private val CHECKPOINT_JSON = kotlinx.serialization.json.Json { encodeDefaults = true }

/**
 * Fills the session's state from a checkpoint.
 *
 * @throws UsageException it was damaged after it was written
 */
internal fun readCheckpoint(path: File, manifest: Manifest, state: Map<String, FloatBuffer>): Pair<Scaling, Position> =
    try {
        val position = JSON.decodeFromString<Position>(File(path, STATE_FILE).readText())
        val scaling = readPeft(path, manifest.lora, state.getValue(manifest.lora.state))
        val moments = moments(manifest, state)
        if (moments.isNotEmpty()) {
            val file = File(path, OPTIMIZER_FILE)
            val layout = readLayout(file)
            if (layout.mapValues { it.value.spec.shape } != moments.mapValues { it.value.shape }) throw UsageException("$file holds ${layout.keys}, not ${moments.keys}.")
            readTensors(file, layout, moments)
        }
        scaling to position
    } catch (error: Exception) {
        if (error !is IOException && error !is UsageException && error !is SerializationException) throw error
        throw UsageException(
            "The checkpoint $path is damaged: ${error.message} Remove that folder, and resuming goes on from the one before, or from the beginning.",
            error,
        )
    }

/** The optimizer's own state, as far as this run has it. */
private fun moments(manifest: Manifest, state: Map<String, FloatBuffer>): Map<String, TensorPart> =
    manifest.checkpoint.filter { it in state }.associateWith { TensorPart(state.getValue(it), 0, manifest.tensors.getValue(it).shape) }

/** Removes all but the latest checkpoints. */
internal fun prune(folder: File, keep: Int) {
    for (path in checkpoints(folder).values.toList().dropLast(keep)) {
        // Renamed first: a folder that is half removed must not look like a checkpoint.
        val doomed = File(folder, ".${path.name}")
        if (!path.renameTo(doomed) || !doomed.deleteRecursively()) throw MespException("Could not remove the old checkpoint $path.")
    }
}
