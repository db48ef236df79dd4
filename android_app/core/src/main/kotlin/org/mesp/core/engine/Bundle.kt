package org.mesp.core.engine

import java.io.File
import java.io.IOException
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.channels.FileChannel
import kotlinx.serialization.ExperimentalSerializationApi
import kotlinx.serialization.SerialName
import kotlinx.serialization.Serializable
import kotlinx.serialization.SerializationException
import kotlinx.serialization.json.decodeFromStream
import org.mesp.core.JSON
import org.mesp.core.UsageException
import org.mesp.core.sha256

const val BUNDLE_FORMAT = 5
const val MANIFEST = "manifest.json"
const val PROGRAM = "program.pte"
const val WEIGHTS = "weights.safetensors"
const val ADAPTER = "adapter.safetensors"
const val TOKENIZER = "tokenizer"

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
