package org.mesp.core.engine

import kotlinx.serialization.SerialName
import kotlinx.serialization.Serializable
import kotlinx.serialization.json.JsonObject
import kotlinx.serialization.json.int
import kotlinx.serialization.json.jsonArray
import kotlinx.serialization.json.jsonPrimitive

/** [origin] is the checkpoint's name, [vocabulary] the number of token ids, [maxTokens] the longest sequence that the model knows. */
@Serializable
data class ModelInfo(val origin: String, val vocabulary: Int, @SerialName("max_tokens") val maxTokens: Int)

/**
 * Memory with a name that the runtime provides. [kind]: a "state" starts as zeros and is kept from run to run. A "file" is kept in the storage.
 * The others live in the arena: an "input" is written before a run, an "output" is read after it, a "buffer" is neither.
 */
@Serializable
data class TensorInfo(val kind: String, val shape: List<Int>, val dtype: String) {
    val spec get() = TensorSpec(shape, dtype)
}

@Serializable
data class Argument(val name: String, val shape: List<Int>, val dtype: String) {
    val spec get() = TensorSpec(shape, dtype)
}

/** A program's inputs and results in order, and the memory that it has planned for what it works out. */
@Serializable
data class ProgramSpec(val inputs: List<Argument>, val outputs: List<Argument>, @SerialName("planned_bytes") val plannedBytes: Long)

/** A buffer's place in the arena, in bytes. */
@Serializable
data class Placed(val offset: Int, val nbytes: Int)

@Serializable
data class Arena(val nbytes: Int, val buffers: Map<String, Placed>)

@Serializable
data class Schedule(val arena: Arena, val instructions: List<Instruction>)

/**
 * One tensor of the adapter.
 *
 * @param name in PEFT's files
 * @param offset where it begins in the state that holds the adapter, in elements
 * @param shape as it lies there: [in or out, rank]
 * @param transposed PEFT's files have it as [rank, in or out]
 */
@Serializable
data class AdapterTensor(val name: String, val offset: Int, val shape: List<Int>, val transposed: Boolean)

/**
 * The adapter that a bundle trains.
 *
 * @param layersToTransform what PEFT is told of the layers that have one; null for all
 * @param state the tensor that holds it
 * @param tensors all of them, in order
 */
@Serializable
data class Lora(
    val rank: Int,
    val alpha: Double,
    val targets: List<String>,
    @SerialName("layers_to_transform") val layersToTransform: List<Int>?,
    val state: String,
    val tensors: List<AdapterTensor>,
) {
    val bytes: Long get() = tensors.sumOf { it.shape.fold(1L, Long::times) } * Float.SIZE_BYTES
}

/** What the library must have for the programs to run, by the names that it lists them under. */
@Serializable
data class Needs(val operators: List<String>, val backends: List<String>)

@Serializable
data class FileInfo(val sha256: String, val bytes: Long)

/**
 * What manifest.json says; runtime/engine/manifest.py has the same.
 *
 * @param plan all that was chosen when the bundle was exported, by the command line's names
 * @param checkpoint the states that a checkpoint keeps beside the adapter, where a run has them
 * @param constants inputs that have this value in every run of a schedule
 * @param gradientNotFinite what else may be wrong where the loss is finite and its gradient is not
 */
@Serializable
data class Manifest(
    val model: ModelInfo,
    val plan: JsonObject,
    val lora: Lora,
    val tensors: Map<String, TensorInfo>,
    val programs: Map<String, ProgramSpec>,
    val needs: Needs,
    @SerialName("warm_up") val warmUp: List<String>,
    val schedules: Map<String, Schedule>,
    val checkpoint: List<String>,
    val constants: Map<String, Double>,
    @SerialName("gradient_not_finite") val gradientNotFinite: String?,
    val versions: Map<String, String>,
    val files: Map<String, FileInfo>,
) {
    private val lengths: List<Int> get() = numbers("seq_len")

    /** The longest sequence. */
    val tokens: Int get() = lengths.max()

    val sizes: List<Size> get() = sizes(lengths, numbers("head_rows"))

    private fun numbers(choice: String): List<Int> = plan.getValue(choice).jsonArray.map { it.jsonPrimitive.int }
}
