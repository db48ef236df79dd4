package org.mesp.core

import java.io.File
import java.io.IOException
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.channels.FileChannel
import java.security.MessageDigest
import kotlinx.serialization.ExperimentalSerializationApi
import kotlinx.serialization.SerialName
import kotlinx.serialization.Serializable
import kotlinx.serialization.SerializationException
import kotlinx.serialization.json.Json
import kotlinx.serialization.json.JsonObject
import kotlinx.serialization.json.JsonPrimitive
import kotlinx.serialization.json.decodeFromStream

const val BUNDLE_FORMAT = 4
const val MANIFEST = "manifest.json"
const val PROGRAM = "program.pte"
const val WEIGHTS = "weights.safetensors"
const val ADAPTER = "adapter.safetensors"
const val TOKENIZER = "tokenizer"

/** What the app reads and writes: unknown keys are for others. */
internal val JSON = Json { ignoreUnknownKeys = true }

@Serializable
data class ModelInfo(val origin: String, val config: JsonObject)

/**
 * Memory with a name that the runtime provides. [kind]: "state" is kept from run to run and starts as zeros; a "file" is kept in the storage;
 * the others live in the arena: an "input" is written before a run, an "output" is read after it, a "buffer" is neither.
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

/** What manifest.json says; runtime/bundle.py has the same. */
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

/** An opened bundle, its files checked. */
class Bundle private constructor(val path: File, val manifest: Manifest, private val layout: Map<String, FilePart>) {
    /** Whether the frozen weights hold a tensor of this name. */
    fun hasWeights(name: String) = name in layout

    fun weightDtype(name: String): String = layout.getValue(name).spec.dtype

    /** A frozen tensor, mapped for reading: its pages stay clean, and the kernel can drop and read them again. */
    fun mapWeights(name: String): ByteBuffer {
        val part = layout.getValue(name)
        return File(path, WEIGHTS).inputStream().channel.use {
            it.map(FileChannel.MapMode.READ_ONLY, part.start, part.spec.bytes).order(ByteOrder.nativeOrder())
        }
    }

    companion object {
        /**
         * Opens a bundle and checks its version and its files.
         *
         * @throws UsageException no bundle, one of a newer format, or one that was changed after it was written
         */
        fun open(path: File): Bundle {
            val manifest = readManifest(path)
            for ((name, info) in manifest.files) checkFile(File(path, name), info)
            return Bundle(path, manifest, readLayout(File(path, WEIGHTS)))
        }

        @OptIn(ExperimentalSerializationApi::class)
        private fun readManifest(path: File): Manifest {
            val file = File(path, MANIFEST)
            if (!file.isFile) throw UsageException("$path is not a bundle: it has no $MANIFEST. Make one with: mesp export CHECKPOINT -o BUNDLE")
            try {
                val version = file.inputStream().buffered().use { JSON.decodeFromStream<Version>(it) }.version
                if (version != BUNDLE_FORMAT) {
                    val how = if (version > BUNDLE_FORMAT) "Update the app, or export it with the mesp of this app's version." else "Export it again."
                    throw UsageException("$path has bundle format $version; this app reads format $BUNDLE_FORMAT. $how")
                }
                return file.inputStream().buffered().use { JSON.decodeFromStream<Manifest>(it) }
            } catch (error: SerializationException) {
                throw UsageException("$file is damaged (${error.message?.lineSequence()?.first()}). Export the bundle again, and copy it whole.", error)
            } catch (error: IOException) {
                throw UsageException("$file cannot be read (${error.message}). Copy the bundle again.", error)
            }
        }

        private fun checkFile(file: File, expected: FileInfo) {
            if (!file.isFile) throw UsageException("The bundle lacks ${file.name}. Copy it again, whole.")
            if (file.length() != expected.bytes || sha256(file) != expected.sha256) {
                throw UsageException("$file was changed or damaged after the bundle was written: its SHA-256 is not the manifest's. Copy it again.")
            }
        }
    }

    @Serializable
    private data class Version(@SerialName("format_version") val version: Int)
}

/** Of a file's contents, in hexadecimal. */
fun sha256(file: File): String {
    val digest = MessageDigest.getInstance("SHA-256")
    file.inputStream().use { stream ->
        val block = ByteArray(1 shl 16)
        while (true) {
            val count = stream.read(block)
            if (count < 0) break
            digest.update(block, 0, count)
        }
    }
    return digest.digest().hex()
}

internal fun ByteArray.hex(): String = joinToString("") { "%02x".format(it) }
