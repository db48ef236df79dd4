package org.mesp.core.memory

import java.io.File
import java.io.IOException
import java.io.RandomAccessFile
import org.mesp.core.MespException

/** What the kernel says of this process under /proc/self. An app may read all of it without root. */
internal object Proc {
    /** Private_Dirty + Shared_Dirty + Swap, in bytes. On a phone swap is compressed memory. Takes milliseconds. */
    fun exactFootprint(): Long {
        val rollup = File("/proc/self/smaps_rollup") // since Android 9
        return fields(if (rollup.exists()) rollup else File("/proc/self/smaps"), setOf("Private_Dirty", "Shared_Dirty", "Swap"))
    }

    /** VmHWM, in bytes: the largest resident size ever. */
    fun highWaterMark(): Long = fields(File("/proc/self/status"), setOf("VmHWM"))

    /** Starts VmHWM anew from now on, where the kernel allows it. */
    fun resetHighWaterMark(): Boolean =
        try {
            File("/proc/self/clear_refs").writeText("5")
            true
        } catch (_: IOException) {
            false
        }

    /** The sum of fields of a file of "Name:  n kB" lines, in bytes. */
    private fun fields(file: File, names: Set<String>): Long = file.useLines { sumOfFields(it, names, file.path) }
}

private const val MAJOR_FAULTS = 9

/** The machine's memory, in bytes: what can be taken without swapping, and all. */
data class SystemMemory(val availableBytes: Long, val totalBytes: Long) {
    companion object {
        /** Null where the kernel does not tell. */
        fun now(): SystemMemory? =
            try {
                val file = File("/proc/meminfo")
                fun field(name: String) = file.useLines { sumOfFields(it, setOf(name), file.path) }
                SystemMemory(field("MemAvailable"), field("MemTotal"))
            } catch (_: IOException) {
                null
            } catch (_: MespException) {
                null
            }
    }
}

/** Page faults of this process so far that had to wait for the storage. */
internal fun majorFaults(): Long = File("/proc/self/stat").readText().substringAfterLast(") ").split(" ")[MAJOR_FAULTS].toLong()

/**
 * The sum of fields of "Name:  n kB" lines, in bytes.
 *
 * @throws MespException a figure is negative or none, or there is no such field: a footprint of 0 would be taken for a measurement
 */
internal fun sumOfFields(lines: Sequence<String>, names: Set<String>, file: String): Long {
    val figures = lines.filter { it.substringBefore(':') in names }.map { it.substringAfter(':').trim().substringBefore(' ').toLongOrNull() }.toList()
    if (figures.isEmpty() || figures.any { it == null || it < 0 }) {
        throw MespException("$file does not tell this process's memory: expected sizes for ${names.joinToString(", ")}. Memory cannot be measured here.")
    }
    return figures.sumOf { it!! * 1024 }
}

/** /proc/self/statm, kept open and read without allocating. */
internal class Statm(private val pageBytes: Long) : AutoCloseable {
    private val file = RandomAccessFile("/proc/self/statm", "r")
    private val text = ByteArray(128)
    private val numbers = LongArray(3)

    /** Resident memory as of the last [read], in bytes. */
    val resident: Long get() = numbers[1] * pageBytes

    /** Anonymous memory as of the last [read]: resident less shared, in bytes. */
    val anonymous: Long get() = (numbers[1] - numbers[2]) * pageBytes

    fun read() {
        file.seek(0)
        val length = file.read(text)
        var place = 0
        for (index in numbers.indices) {
            var number = 0L
            while (place < length && text[place] != SPACE) number = number * 10 + (text[place++] - ZERO)
            place++
            numbers[index] = number
        }
    }

    override fun close() = file.close()

    companion object {
        private const val SPACE = ' '.code.toByte()
        private const val ZERO = '0'.code.toByte()

        /** The kernel's page size, which differs between devices: the ratio of two of its own figures. */
        fun pageBytes(): Long {
            val pages = File("/proc/self/statm").readText().split(" ")[0].toLong()
            val bytes = File("/proc/self/status").readLines().first { it.startsWith("VmSize:") }.filter(Char::isDigit).toLong() * 1024
            return PAGE_SIZES.minBy { kotlin.math.abs(it * pages - bytes) }
        }

        private val PAGE_SIZES = listOf(4096L, 16384L, 65536L)
    }
}
