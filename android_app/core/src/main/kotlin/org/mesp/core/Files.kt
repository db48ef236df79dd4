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

/** For JSON that is read here. A key that is not known is for another reader. */
internal val JSON = Json { ignoreUnknownKeys = true }

private val PRETTY = Json { prettyPrint = true; prettyPrintIndent = " " }

/** Writes a whole file: under another name in the same folder, then it is flushed, then renamed. [write] is given that other file. */
fun replacing(file: File, write: (File) -> Unit) {
    val new = File(file.absoluteFile.parentFile, ".${file.name}.new")
    try {
        write(new)
        RandomAccessFile(new, "rw").use { it.fd.sync() }
        Files.move(new.toPath(), file.toPath(), ATOMIC_MOVE, REPLACE_EXISTING)
        flush(file.absoluteFile.parentFile)
    } finally {
        new.delete()
    }
}

internal fun writeJson(file: File, value: JsonElement) =
    replacing(file) { it.writeText(PRETTY.encodeToString(JsonElement.serializer(), value) + "\n") }

/**
 * Makes a folder whole or not at all. [write] fills a folder of another name, which becomes [output] at the end, in place of one that was there.
 *
 * @throws MespException it could not be written; what was there stays as it was
 */
fun folderThatAppearsWhole(output: File, write: (File) -> Unit) {
    val parent = output.absoluteFile.parentFile
    val folder = File(parent, ".${output.name}.new")
    val old = File(parent, ".${output.name}.old")
    try {
        listOf(folder, old).forEach(File::deleteRecursively)
        makeFolders(folder)
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

/**
 * Makes a folder, and those above it that are not there. The storage has the name of each: what is written into it later would be lost with it.
 *
 * @throws IOException one could not be made
 */
internal fun makeFolders(folder: File) {
    val missing = generateSequence(folder.absoluteFile, File::getParentFile).takeWhile { !it.isDirectory }.toList()
    for (new in missing.asReversed()) {
        Files.createDirectories(new.toPath())
        flush(new.parentFile)
    }
}

/** Waits until a file, or the names in a folder, are in the storage. A new name must not outlive what it names. */
private fun flush(file: File) {
    try {
        FileChannel.open(file.toPath(), READ).use { it.force(true) }
    } catch (error: IOException) {
        // Not every file system can flush a folder. That is no reason to lose what is in it.
        if (!file.isDirectory) throw error
    }
}

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
