package org.mesp.core.training

import java.io.Closeable
import java.io.File
import java.io.FileOutputStream
import java.io.IOException
import java.io.RandomAccessFile
import java.nio.channels.OverlappingFileLockException
import kotlinx.serialization.KSerializer
import kotlinx.serialization.json.Json
import kotlinx.serialization.json.JsonObject
import org.mesp.core.MespException
import org.mesp.core.UsageException
import org.mesp.core.makeFolders
import org.mesp.core.reason
import org.mesp.core.report.LOCK
import org.mesp.core.report.LOGS
import org.mesp.core.report.RUN_JSON
import org.mesp.core.writeJson

internal const val GO_ON = "The checkpoints before are complete: free some space, and resume the run."

/**
 * Writes the folder of a run; runtime/contract/run_folder.schema.json says what is in it. Logs grow by lines, and everything else is complete or
 * absent. When a run is resumed, its logs are cut to where they were at the checkpoint.
 *
 * The folder is locked until it is closed: of two runs the second is refused. The lock ends with its process, however that ends.
 */
internal class RunWriter private constructor(val path: File) : Closeable {
    private val lock = lock(path)
    val checkpoints = File(path, "checkpoints")
    private val logs = HashMap<String, FileOutputStream>()

    /** Opens the logs for appending, each cut to [bytes] (of a checkpoint), and removes what was left half written. */
    fun openLogs(bytes: Map<String, Long>) {
        for (folder in listOf(path, checkpoints)) {
            folder.listFiles().orEmpty().filter { it.name.startsWith(".") && it.name != LOCK }.forEach(File::deleteRecursively)
        }
        for (name in LOGS) {
            val file = File(path, name)
            val length = bytes[name] ?: 0
            if (file.length() < length) throw UsageException("$file is shorter than it was at the checkpoint. Start another run.")
            val log = FileOutputStream(file, true)
            log.channel.truncate(length)
            logs[name] = log
        }
    }

    /** Appends a line. */
    fun <T> log(name: String, serializer: KSerializer<T>, item: T) {
        try {
            logs.getValue(name).write((Json.encodeToString(serializer, item) + "\n").encodeToByteArray())
        } catch (error: IOException) {
            throw MespException("Could not write ${File(path, name)}: ${reason(error)}. $GO_ON", error)
        }
    }

    /** The length of each log, after it is safe in the storage. */
    fun logBytes(): Map<String, Long> =
        logs.mapValues { (_, log) ->
            log.fd.sync()
            log.channel.size()
        }

    /** What a full storage did not take was reported when it was written. */
    override fun close() {
        logs.values.forEach { runCatching { it.close() } }
        if (lock.channel.isOpen) File(path, LOCK).delete()
        lock.close()
    }

    companion object {
        /** Refuses a place that has something at it already. Hidden files do not count: a run that never began may have left some. */
        fun checkFree(path: File) {
            val taken = path.exists() && (!path.isDirectory || path.list().orEmpty().any { !it.startsWith(".") })
            if (taken) {
                val hint = if (File(path, RUN_JSON).exists()) "Resume it, or choose" else "Choose"
                throw UsageException("$path exists already. $hint another output, or remove it first.")
            }
        }

        fun create(path: File, runJson: JsonObject): RunWriter {
            checkFree(path)
            try {
                makeFolders(path)
            } catch (error: IOException) {
                throw MespException("Could not make the folder $path: ${reason(error)}.", error)
            }
            val writer = RunWriter(path)
            try {
                checkFree(path) // another run may have been here before the lock
                writeJson(File(path, RUN_JSON), runJson)
            } catch (error: Exception) {
                writer.close()
                throw error
            }
            return writer
        }

        fun reopen(path: File): RunWriter {
            if (!File(path, RUN_JSON).isFile) throw UsageException("There is no run to resume at $path: it has no $RUN_JSON. Start a new one.")
            return RunWriter(path)
        }

        private fun lock(path: File): RandomAccessFile {
            val file = RandomAccessFile(File(path, LOCK), "rw")
            val taken =
                try {
                    file.channel.tryLock()
                } catch (_: OverlappingFileLockException) { // by this process
                    null
                }
            if (taken != null) return file
            file.close()
            throw UsageException("Another run is under way in $path. Wait for it or end it, or choose another output.")
        }
    }
}
