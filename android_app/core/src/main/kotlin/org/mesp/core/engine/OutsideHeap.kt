package org.mesp.core.engine

import java.io.File
import java.io.IOException
import java.io.RandomAccessFile
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.channels.FileChannel.MapMode
import org.mesp.core.MespException

// Memory for tensors, outside of the virtual machine's heap. On Android ByteBuffer.allocateDirect takes an array from the heap, whose limit is 192 to
// 512 MB whatever the phone has.
//
// It is a private mapping of a file without a name that is one hole. A page that is written to becomes this process's own copy: to the kernel it
// is anonymous memory as malloc's is. So it is in every sample of the footprint and in what is read from outside, it may be swapped, and nothing
// of it is ever written to the file. A shared mapping would be written to the storage every few seconds, which wears it out, and then look
// clean. Android's SharedMemory is there from API 27 on alone, and pages of it that were swapped are not in VmSwap.

private const val PAGE_BYTES = 4096 // the smallest; where pages are larger, one is touched several times

/**
 * Zeros outside of the heap, in native byte order. The memory is taken at once, so that a lack of it shows before a run begins. It is given
 * back when the buffer is collected.
 *
 * @param folder where the file is made; it takes no room there
 * @throws MespException the folder cannot be written, or there is no more memory
 */
internal fun outsideHeap(folder: File, bytes: Long): ByteBuffer {
    val memory = mapHole(folder, bytes, MapMode.PRIVATE)
    for (place in 0 until memory.capacity() step PAGE_BYTES) memory.put(place, 0)
    return memory
}

/** Zeros that are no memory of this process, for reading: nothing becomes its own copy. */
internal fun mappedZeros(folder: File, bytes: Long): ByteBuffer = mapHole(folder, bytes, MapMode.READ_ONLY)

private fun mapHole(folder: File, bytes: Long, mode: MapMode): ByteBuffer =
    try {
        namelessFile(folder).use {
            it.setLength(bytes)
            it.channel.map(mode, 0, bytes).order(ByteOrder.nativeOrder())
        }
    } catch (error: IOException) {
        throw MespException("${bytes / 1_000_000} MB of memory could not be had by way of a file in $folder: ${error.message}.", error)
    }

/** A file that is gone when it is closed, however the process ends. */
internal fun namelessFile(folder: File): RandomAccessFile {
    val file = File.createTempFile("scratch", ".bin", folder)
    return RandomAccessFile(file, "rw").also { file.delete() }
}
