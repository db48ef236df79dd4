package org.mesp.core.engine

import java.io.File
import java.io.RandomAccessFile
import java.nio.Buffer
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.FloatBuffer
import java.nio.channels.FileChannel
import kotlinx.serialization.SerializationException
import kotlinx.serialization.json.JsonArray
import kotlinx.serialization.json.JsonObject
import kotlinx.serialization.json.JsonPrimitive
import kotlinx.serialization.json.add
import kotlinx.serialization.json.buildJsonObject
import kotlinx.serialization.json.jsonArray
import kotlinx.serialization.json.jsonObject
import kotlinx.serialization.json.jsonPrimitive
import kotlinx.serialization.json.put
import kotlinx.serialization.json.putJsonArray
import kotlinx.serialization.json.putJsonObject
import org.mesp.core.JSON
import org.mesp.core.UsageException

/** Those that [readTensors] takes. */
internal val FLOATS = setOf("float32", "float16", "bfloat16")
private val DTYPES = mapOf("F32" to "float32", "F16" to "float16", "BF16" to "bfloat16", "I8" to "int8", "U8" to "uint8", "I32" to "int32", "I64" to "int64")
private const val LENGTH_BYTES = 8
private const val COPY_ELEMENTS = 1 shl 12 // of the heap on Android

/** A tensor of a safetensors file: its place in bytes from the file's start. */
class FilePart(val spec: TensorSpec, val start: Long)

/**
 * The tensors of a safetensors file, without those that only fill it up to an alignment.
 *
 * @throws UsageException it is not a whole file of that format
 */
fun readLayout(file: File): Map<String, FilePart> {
    try {
        RandomAccessFile(file, "r").use { input ->
            val length = ByteArray(LENGTH_BYTES).also(input::readFully)
            val header = ByteBuffer.wrap(length).order(ByteOrder.LITTLE_ENDIAN).getLong()
            if (header !in 2..(input.length() - LENGTH_BYTES)) throw UsageException("$file is not a safetensors file. Copy it again.")
            val text = ByteArray(header.toInt()).also(input::readFully).decodeToString()
            return JSON.parseToJsonElement(text).jsonObject
                .filterKeys { it != "__metadata__" && !it.startsWith("padding.") }
                .mapValues { (_, item) -> filePart(item.jsonObject, LENGTH_BYTES + header, input.length()) }
        }
    } catch (error: SerializationException) {
        throw UsageException("$file is not a safetensors file (${error.message?.lineSequence()?.first()}). Copy it again.", error)
    } catch (error: java.io.IOException) {
        throw UsageException("$file cannot be read (${error.message}). Copy it again.", error)
    }
}

private fun filePart(item: JsonObject, data: Long, length: Long): FilePart {
    fun numbers(key: String) = item.getValue(key).jsonArray.map { it.jsonPrimitive.content.toLong() }
    val dtype = item.getValue("dtype").jsonPrimitive.content
    val spec = TensorSpec(numbers("shape").map(Long::toInt), DTYPES[dtype] ?: throw UsageException("A tensor has dtype $dtype, which is not supported."))
    val (first, end) = numbers("data_offsets")
    if (end - first != spec.bytes || data + end > length) throw UsageException("A safetensors file is cut short. Copy it again.")
    return FilePart(spec, data + first)
}

/** Writes a safetensors file of fp32 tensors, transposed where they say so, without a second copy in memory. */
fun writeTensors(file: File, tensors: Map<String, TensorPart>, metadata: Map<String, String> = emptyMap()) {
    RandomAccessFile(file, "rw").use { output ->
        output.setLength(0)
        val header = header(tensors, metadata)
        val channel = output.channel
        channel.writeAll(ByteBuffer.allocate(LENGTH_BYTES).order(ByteOrder.LITTLE_ENDIAN).putLong(header.size.toLong()).also { (it as Buffer).flip() })
        channel.writeAll(ByteBuffer.wrap(header))
        val block = ByteBuffer.allocateDirect(COPY_ELEMENTS * Float.SIZE_BYTES).order(ByteOrder.LITTLE_ENDIAN)
        for (tensor in tensors.values) {
            for (index in 0 until tensor.elements) {
                if (!block.hasRemaining()) channel.writeBlock(block)
                block.putFloat(tensor[index])
            }
        }
        channel.writeBlock(block)
        channel.force(true)
    }
}

/** Reads tensors of one of [FLOATS] into their places. The file must have all of them. */
fun readTensors(file: File, layout: Map<String, FilePart>, places: Map<String, TensorPart>) {
    file.inputStream().channel.use { channel ->
        for ((name, place) in places) {
            val part = layout.getValue(name)
            val number = floats(channel.map(FileChannel.MapMode.READ_ONLY, part.start, part.spec.bytes).order(ByteOrder.LITTLE_ENDIAN), part.spec.dtype)
            for (index in 0 until place.elements) place[index] = number(index)
        }
    }
}

/** The elements of a tensor of one of [FLOATS], as fp32, by their number. */
private fun floats(bytes: ByteBuffer, dtype: String): (Int) -> Float {
    if (dtype == "float32") return bytes.asFloatBuffer()::get
    val halves = bytes.asShortBuffer()
    return if (dtype == "float16") ({ fromFloat16(halves.get(it)) }) else ({ Float.fromBits(halves.get(it).toInt() shl 16) })
}

private const val INFINITE_FLOAT16 = 0x7c00
private const val INFINITE_FLOAT32 = 0x7f800000
private const val FRACTION_BITS = 13 // that fp32 has more

/** Exact, also for numbers below the smallest normal one: the product moves the exponent from one format's bias to the other's. */
private fun fromFloat16(half: Short): Float {
    val magnitude = half.toInt() and 0x7fff
    val bits = magnitude shl FRACTION_BITS
    val value = if (magnitude < INFINITE_FLOAT16) Float.fromBits(bits) * BIAS else Float.fromBits(bits or INFINITE_FLOAT32)
    return if (half < 0) -value else value
}

private val BIAS = Float.fromBits((127 + 127 - 15) shl 23) // 2^112

/**
 * A part of a vector, seen as the tensor that a file has, element by element in the file's order.
 *
 * @param first where it begins in the vector
 * @param inMemory its shape in the vector
 * @param transposed the file has the matrix with rows and columns exchanged
 */
class TensorPart(private val vector: FloatBuffer, private val first: Int, private val inMemory: List<Int>, private val transposed: Boolean = false) {
    val shape = if (transposed) inMemory.reversed() else inMemory
    val elements = shape.fold(1, Int::times)

    private fun place(index: Int): Int {
        if (!transposed) return first + index
        val (rows, columns) = inMemory
        return first + (index % rows) * columns + index / rows
    }

    operator fun get(index: Int): Float = vector.get(place(index))

    operator fun set(index: Int, value: Float) {
        vector.put(place(index), value)
    }
}

private fun header(tensors: Map<String, TensorPart>, metadata: Map<String, String>): ByteArray {
    var end = 0L
    val json =
        buildJsonObject {
            if (metadata.isNotEmpty()) put("__metadata__", JsonObject(metadata.mapValues { JsonPrimitive(it.value) }))
            for ((name, tensor) in tensors) {
                putJsonObject(name) {
                    put("dtype", "F32")
                    put("shape", JsonArray(tensor.shape.map(::JsonPrimitive)))
                    putJsonArray("data_offsets") {
                        add(end)
                        end += tensor.elements * 4L
                        add(end)
                    }
                }
            }
        }
    val text = json.toString().encodeToByteArray()
    return text + ByteArray(Math.floorMod(-text.size, LENGTH_BYTES)) { ' '.code.toByte() }
}

private fun FileChannel.writeBlock(block: ByteBuffer) {
    (block as Buffer).flip()
    writeAll(block)
    (block as Buffer).clear()
}

internal fun FileChannel.writeAll(bytes: ByteBuffer) {
    while (bytes.hasRemaining()) write(bytes)
}
