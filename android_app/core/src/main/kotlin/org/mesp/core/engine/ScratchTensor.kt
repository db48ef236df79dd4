package org.mesp.core.engine

import java.io.Closeable
import java.io.File
import java.io.IOException
import java.nio.Buffer
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.FloatBuffer
import java.nio.LongBuffer
import java.nio.ShortBuffer
import java.nio.channels.FileChannel
import org.mesp.core.MespException

/**
 * A tensor that is kept in a file. It is written as a file and read through a mapping, so none of it is this process's own memory.
 *
 * Pages that were written and are not in the storage yet would count as dirty pages of the mapping, so they are flushed before the first read
 * after a write. The file has no name: nothing is left of it, however the process ends.
 *
 * @param folder where the file is made; in the storage, since a file system in memory would save nothing
 * @throws MespException there is no room for it
 */
internal class ScratchTensor(private val folder: File, spec: TensorSpec) : Closeable {
    private val itemBytes = itemBytes(spec.dtype)
    private val channel: FileChannel
    private var flushed = true
    private var staging = ByteBuffer.allocate(0)

    /** All of it, for reading. */
    val memory: Buffer

    init {
        try {
            channel = namelessFile(folder).channel
            reserve(spec.bytes)
            memory = typed(channel.map(FileChannel.MapMode.READ_ONLY, 0, spec.bytes).order(ByteOrder.nativeOrder()), spec.dtype)
        } catch (error: IOException) {
            throw MespException("$folder has no room for the ${spec.bytes / 1_000_000} MB that are offloaded: ${error.message}.", error)
        }
    }

    /** Takes the room now. Where a file has a hole, a full storage shows only when a page of the mapping cannot be had. */
    private fun reserve(bytes: Long) {
        val block = ByteBuffer.allocate(1 shl 16)
        var left = bytes
        while (left > 0) {
            (block as Buffer).clear()
            (block as Buffer).limit(minOf(left, block.capacity().toLong()).toInt())
            left -= block.remaining()
            channel.writeAll(block)
        }
        channel.force(false)
    }

    /** Writes elements from [first] on. A file takes a ByteBuffer, and a result's memory is none, so it goes through one. */
    fun write(first: Long, values: Buffer) {
        val bytes = values.capacity() * itemBytes
        if (staging.capacity() != bytes) staging = outsideHeap(folder, bytes.toLong())
        (staging as Buffer).clear()
        values.clear()
        when (values) {
            is FloatBuffer -> staging.asFloatBuffer().put(values)
            is ShortBuffer -> staging.asShortBuffer().put(values)
            is LongBuffer -> staging.asLongBuffer().put(values)
            else -> staging.duplicate().put(values as ByteBuffer)
        }
        var place = first * itemBytes
        while (staging.hasRemaining()) place += channel.write(staging, place)
        flushed = false
    }

    /** Call it before a read. */
    fun flush() {
        if (flushed) return
        channel.force(false)
        flushed = true
    }

    override fun close() = channel.close()
}
