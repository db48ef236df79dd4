package org.mesp.core.engine

import kotlinx.serialization.SerialName
import kotlinx.serialization.Serializable
import kotlinx.serialization.json.JsonObject
import kotlinx.serialization.json.JsonPrimitive

@Serializable
data class ModelInfo(val origin: String, val config: JsonObject)

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

/** A program's inputs and results in order. */
@Serializable
data class ProgramSpec(val inputs: List<Argument>, val outputs: List<Argument>)

/** A buffer's place in the arena, in bytes. */
@Serializable
data class Placed(val offset: Int, val nbytes: Int)

@Serializable
data class Arena(val nbytes: Int, val buffers: Map<String, Placed>)

@Serializable
data class Schedule(val arena: Arena, val instructions: List<Instruction>)

/** One tensor of the adapter in a layer's vector: A is [in, rank], B is [out, rank]; [offset] in elements. */
@Serializable
data class AdapterTensor(val projection: String, val factor: String, val offset: Int, val shape: List<Int>)

/** The adapter that a bundle trains. [firstLayer] is the lowest of the model's that has one. */
@Serializable
data class Lora(
    val rank: Int,
    val alpha: Double,
    val targets: List<String>,
    @SerialName("first_layer") val firstLayer: Int,
    val layers: Int,
    @SerialName("layer_elements") val layerElements: Int,
    val tensors: List<AdapterTensor>,
) {
    val bytes: Long get() = layers.toLong() * layerElements * 4
}

/** What the library must have for the programs to run, by the names that it lists them under. */
@Serializable
data class Needs(val operators: List<String>, val backends: List<String>)

@Serializable
data class FileInfo(val sha256: String, val bytes: Long)

/** What manifest.json says; runtime/engine/bundle.py has the same. */
@Serializable
data class Manifest(
    val model: ModelInfo,
    val weights: JsonObject,
    val lengths: List<Int>,
    @SerialName("head_rows") val headRows: List<Int>,
    val method: String,
    val lora: Lora,
    val tensors: Map<String, TensorInfo>,
    val programs: Map<String, ProgramSpec>,
    val needs: Needs,
    @SerialName("warm_up") val warmUp: List<String>,
    val schedules: Map<String, Schedule>,
    val versions: Map<String, String>,
    val files: Map<String, FileInfo>,
) {
    /** The longest sequence. */
    val tokens: Int get() = lengths.last()

    val vocabulary: Int get() = (model.config.getValue("vocab_size") as JsonPrimitive).content.toInt()

    val sizes: List<Size> get() = sizes(lengths, headRows)
}
