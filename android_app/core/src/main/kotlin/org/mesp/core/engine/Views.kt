package org.mesp.core.engine

import java.nio.Buffer
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.FloatBuffer
import java.nio.LongBuffer
import java.nio.ShortBuffer
import org.pytorch.executorch.EValue
import org.pytorch.executorch.Tensor

/** A tensor's memory as ExecuTorch takes it. [data] is direct, in native byte order, and as large as the tensor. */
internal class View(val data: Buffer, val value: EValue) {
    /** Parts of this memory, by who asked for them. There are few owners, so a search costs less than a hash table. */
    private val owners = ArrayList<Any>()
    private val parts = ArrayList<Array<View?>>()

    /** Part number [index] of the [count] that [owner] may ask for. It is made the first time. */
    fun part(owner: Any, index: Int, count: Int, make: (Buffer) -> View): View {
        var table: Array<View?>? = null
        for (place in owners.indices) if (owners[place] === owner) table = parts[place]
        if (table == null) {
            table = arrayOfNulls(count)
            owners.add(owner)
            parts.add(table)
        }
        return table[index] ?: make(data).also { table[index] = it }
    }

    companion object {
        /** Of [spec] over typed memory, from element [first] on. */
        fun of(memory: Buffer, first: Int, spec: TensorSpec): View {
            val shape = LongArray(spec.shape.size) { spec.shape[it].toLong() }
            val count = spec.elements
            // Slices keep FloatBuffer's byte order, but not ByteBuffer's.
            return when (spec.dtype) {
                "float32" -> (memory as FloatBuffer).duplicate().window(first, count).slice().let { View(it, Tensor.fromBlob(it, shape)) }
                "float16" -> (memory as ShortBuffer).duplicate().window(first, count).slice().let { View(it, halves(it, shape)) }
                "int64" -> (memory as LongBuffer).duplicate().window(first, count).slice().let { View(it, Tensor.fromBlob(it, shape)) }
                else -> {
                    val bytes = (memory as ByteBuffer).duplicate().window(first, count).slice().order(ByteOrder.nativeOrder())
                    View(bytes, if (spec.dtype == "uint8") Tensor.fromBlobUnsigned(bytes, shape) else Tensor.fromBlob(bytes, shape))
                }
            }
        }

        private fun halves(data: ShortBuffer, shape: LongArray) = Tensor.fromBlob(data, shape)

        private fun View(data: Buffer, tensor: Tensor) = View(data, EValue.from(tensor))
    }
}

/** A whole tensor's memory as the buffer type of its dtype. */
internal fun typed(bytes: ByteBuffer, dtype: String): Buffer =
    when (dtype) {
        "float32" -> bytes.asFloatBuffer()
        "float16" -> bytes.asShortBuffer()
        "int64" -> bytes.asLongBuffer()
        else -> bytes
    }

// Before Android 9 position and limit return a Buffer. The casts keep the type.
internal fun <B : Buffer> B.window(first: Int, count: Int): B =
    apply {
        (this as Buffer).limit(first + count)
        (this as Buffer).position(first)
    }

/** Copies all of one memory into the same type of another; the two have the same size. */
internal fun copy(from: Buffer, to: Buffer) {
    from.clear()
    to.clear()
    when (to) {
        is FloatBuffer -> to.put(from as FloatBuffer)
        is ShortBuffer -> to.put(from as ShortBuffer)
        is LongBuffer -> to.put(from as LongBuffer)
        else -> (to as ByteBuffer).put(from as ByteBuffer)
    }
}
