package org.mesp.core

import java.io.File
import java.io.IOException
import java.io.RandomAccessFile
import java.nio.channels.FileChannel
import java.nio.file.Files
import java.nio.file.StandardCopyOption.ATOMIC_MOVE
import java.nio.file.StandardCopyOption.REPLACE_EXISTING
import java.nio.file.StandardOpenOption.READ
import java.security.MessageDigest
import kotlinx.serialization.json.Json
import kotlinx.serialization.json.JsonElement

/** What the app reads and writes: unknown keys are for others. */
internal val JSON = Json { ignoreUnknownKeys = true }

private val PRETTY = Json { prettyPrint = true; prettyPrintIndent = " " }

/** Writes a whole file: beside its place, flushed, and renamed into it. */
fun replacing(file: File, write: (File) -> Unit) {
    val beside = File(file.absoluteFile.parentFile, ".${file.name}.new")
    try {
        write(beside)
        RandomAccessFile(beside, "rw").use { it.fd.sync() }
        Files.move(beside.toPath(), file.toPath(), ATOMIC_MOVE, REPLACE_EXISTING)
    } finally {
        beside.delete()
    }
}

internal fun writeJson(file: File, value: JsonElement) =
    replacing(file) { it.writeText(PRETTY.encodeToString(JsonElement.serializer(), value) + "\n") }

/**
 * Makes a folder beside [output] that is renamed into it at the end, or removed. One that is there is replaced.
 *
 * @throws MespException it could not be written; what was there stays as it was
 */
fun folderThatAppearsWhole(output: File, write: (File) -> Unit) {
    val parent = output.absoluteFile.parentFile
    val folder = File(parent, ".${output.name}.new")
    val old = File(parent, ".${output.name}.old")
    try {
        listOf(folder, old).forEach(File::deleteRecursively)
        Files.createDirectories(folder.toPath())
        write(folder)
        folder.walk().forEach(::flush)
        if (output.exists()) Files.move(output.toPath(), old.toPath(), ATOMIC_MOVE)
        Files.move(folder.toPath(), output.toPath(), ATOMIC_MOVE)
        flush(parent)
    } catch (error: IOException) {
        throw MespException("Could not write $output: ${reason(error)}.", error)
    } finally {
        listOf(folder, old).forEach(File::deleteRecursively)
    }
}

/** Has a file, or the names in a folder, in the storage: a new name must not outlive what it names. */
private fun flush(file: File) = FileChannel.open(file.toPath(), READ).use { it.force(true) }

/** What the system said, without the path that it begins with. */
internal fun reason(error: IOException): String = error.message?.substringAfterLast("(")?.removeSuffix(")") ?: error.toString()

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
