package org.mesp.app.storage

import android.content.Context
import java.io.File
import java.io.InputStream
import org.mesp.app.R
import org.mesp.app.state.Words
import org.mesp.core.MespException
import org.mesp.core.UsageException

/** The person does not want the copy any more. */
internal class Cancelled : RuntimeException()

/**
 * Writes the files of one import, and looks at the space, the cancel button and the sizes meanwhile.
 *
 * @param target what is copied, a file or a folder; it is not there yet
 * @param bytes of the source, where it tells them
 * @param progress told how many bytes of the source are read
 */
class Copy(private val context: Context, val target: File, private val bytes: Long?, private val progress: (Long) -> Unit) {
    private val room = target.absoluteFile.parentFile!!.usableSpace - RESERVE
    private var written = 0L
    private var files = 0
    private var shown = 0L
    @Volatile private var cancelled = false
    @Volatile private var reading: InputStream? = null

    /** Bytes of the source that were read. */
    var read = 0L
        private set

    init {
        bytes?.let(::need)
    }

    /** Ends the copy, also one that waits for a source that does not answer. */
    fun cancel() {
        cancelled = true
        // A stream that cannot be closed will be read to its next bytes, and then the copy ends.
        Thread { runCatching { reading?.close() } }.start()
    }

    /** Reads a document, counting. */
    fun <T> source(stream: InputStream, use: (InputStream) -> T): T =
        Counting(stream).use {
            reading = it
            use(it)
        }

    /** Writes [input] to a file: [path] below the target, or the target itself. */
    fun write(input: InputStream, path: String? = null) {
        if (++files > MOST_FILES) throw UsageException(context.getString(R.string.import_many_files, MOST_FILES))
        val file = path?.let(::inside) ?: target
        file.parentFile?.mkdirs()
        val before = written
        file.outputStream().use { output ->
            val buffer = ByteArray(1 shl 16)
            while (true) {
                val count = input.read(buffer)
                if (count < 0) break
                output.write(buffer, 0, count)
                written += count
                if (written > read * MOST_TIMES + RESERVE) throw UsageException(context.getString(R.string.import_bomb, MOST_TIMES))
                tell()
            }
            // What was just written stays dirty in memory for a while, and dirty pages of mapped weights count as footprint. A bundle's small
            // files need no wait each: what a power failure took of them is seen by their hashes.
            if (path == null || written - before >= SYNCED) output.fd.sync()
        }
    }

    /** Whether the source has come to its end before the size that it told. */
    fun endedEarly(told: Long?, came: Long) {
        if (told == null || told <= 0 || came >= told) return
        val words = Words(context)
        throw MespException(context.getString(R.string.import_ended_early, words.size(came), words.size(told)))
    }

    fun check() {
        if (cancelled) throw Cancelled()
    }

    private fun tell() {
        check()
        if (written - shown < 1 shl 20) return
        shown = written
        need(written)
        progress(read)
    }

    private fun need(bytes: Long) {
        if (bytes <= room) return
        val words = Words(context)
        throw MespException(context.getString(R.string.no_room, words.size(bytes), words.size(room.coerceAtLeast(0))))
    }

    /** A file inside the copy; names come from elsewhere and may try to lead out of it. */
    private fun inside(path: String): File {
        val file = File(target, path).canonicalFile
        if (!file.startsWith(target.canonicalFile)) throw UsageException(context.getString(R.string.path_outside, "file", path))
        return file
    }

    private inner class Counting(private val stream: InputStream) : InputStream() {
        override fun read(): Int = stream.read().also { if (it >= 0) read++ }

        override fun read(buffer: ByteArray, from: Int, length: Int): Int {
            check()
            return stream.read(buffer, from, length).also { if (it > 0) read += it }
        }

        override fun close() = stream.close()
    }

    private companion object {
        /** Left free, in bytes: checkpoints and logs need room too, and Android itself. */
        const val RESERVE = 100_000_000L

        const val SYNCED = 1 shl 20

        // A bundle has some dozens of files, and of its bytes nearly all are weights, which no archive makes much smaller.
        const val MOST_FILES = 1000
        const val MOST_TIMES = 20
    }
}
