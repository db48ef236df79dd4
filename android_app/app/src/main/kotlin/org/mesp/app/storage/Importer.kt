package org.mesp.app.storage

import android.content.Context
import android.net.Uri
import java.io.File
import java.io.InputStream
import java.util.concurrent.Executor
import java.util.zip.ZipInputStream
import org.mesp.app.R
import org.mesp.app.phone.Logcat
import org.mesp.app.phone.reasonOf
import org.mesp.app.state.Import
import org.mesp.app.state.Store
import org.mesp.app.state.Words
import org.mesp.core.MespException
import org.mesp.core.UsageException
import org.mesp.core.engine.MANIFEST

/**
 * Copies what the person picked into the app's files, since native code maps files by path and a document has none. A copy has a hidden name
 * until it is whole. One that fails or is cancelled leaves nothing.
 *
 * @param background where copies are made
 * @param shelf is asked to look again after each
 */
class Importer(
    private val context: Context,
    private val folders: Folders,
    private val store: Store,
    private val shelf: Shelf,
    private val background: Executor,
) {
    @Volatile private var cancelled = false

    fun bundleFolder(tree: Uri) = start(folders.bundles) { BundleFolder(documents, tree) }

    fun bundleZip(document: Uri) = start(folders.bundles) { BundleZip(documents, document) }

    fun data(document: Uri) = start(folders.data) { DataFile(documents, document) }

    fun cancel() {
        cancelled = true
    }

    private val documents by lazy { Documents(context.contentResolver) }

    private fun start(folder: File, source: () -> Source) {
        if (store.state.importing != null) return
        cancelled = false
        store.update { it.copy(importing = Import(""), message = null) }
        background.execute {
            val message =
                try {
                    copy(folder, source())
                    null
                } catch (_: Cancelled) {
                    null
                } catch (error: Exception) {
                    reasonOf(context, error).also { Logcat.error("import", null, it, error) }
                }
            store.update { it.copy(importing = null, message = message) }
            shelf.refresh()
        }
    }

    private fun copy(folder: File, source: Source) {
        store.update { it.copy(importing = Import(source.name, 0, source.bytes)) }
        folder.mkdirs()
        val new = File(folder, ".importing")
        new.deleteRecursively()
        try {
            source.copyTo(new, Copy(folder, source))
            val place = free(folder, source.name)
            if (!new.renameTo(place)) throw MespException(context.getString(R.string.copy_failed, source.name))
            choose(folder, place.name)
        } finally {
            new.deleteRecursively()
        }
    }

    /** A name that nothing there has. */
    private fun free(folder: File, name: String): File {
        val (stem, end) = if ('.' in name) name.substringBeforeLast('.') to "." + name.substringAfterLast('.') else name to ""
        return generateSequence(1) { it + 1 }
            .map { File(folder, if (it == 1) name else "$stem-$it$end") }
            .first { !it.exists() }
    }

    private fun choose(folder: File, name: String) =
        store.update {
            it.copy(form = if (folder == folders.bundles) it.form.copy(bundle = name) else it.form.copy(data = name))
        }

    /** Writes the files of one import, and looks at the space and the cancel button meanwhile. */
    inner class Copy(folder: File, source: Source) {
        private var done = 0L
        private var shown = 0L
        private val room = folder.usableSpace - RESERVE

        init {
            // Where the source does not tell its size, running out of room is noticed on the way.
            source.bytes?.let(::need)
        }

        fun write(input: InputStream, file: File) {
            file.parentFile?.mkdirs()
            file.outputStream().use { output ->
                val buffer = ByteArray(1 shl 16)
                while (true) {
                    val count = input.read(buffer)
                    if (count < 0) break
                    output.write(buffer, 0, count)
                    count(count)
                }
                // What was just written stays dirty in memory for a while, and dirty pages of mapped weights count as footprint.
                output.fd.sync()
            }
        }

        private fun count(bytes: Int) {
            if (cancelled) throw Cancelled()
            done += bytes
            if (done - shown < 1 shl 20) return
            shown = done
            need(done)
            store.update { it.copy(importing = it.importing?.copy(done = done)) }
        }

        private fun need(bytes: Long) {
            if (bytes <= room) return
            val words = Words(context)
            throw MespException(context.getString(R.string.no_room, words.size(bytes), words.size(room.coerceAtLeast(0))))
        }
    }

    /** Something to copy. */
    interface Source {
        val name: String
        val bytes: Long?

        fun copyTo(target: File, copy: Copy)
    }

    private inner class BundleFolder(private val documents: Documents, tree: Uri) : Source {
        private val files = documents.tree(tree)
        override val name = cleaned(documents.treeName(tree), "bundle")
        override val bytes = files.sumOf { it.bytes ?: 0 }

        init {
            if (files.none { it.path == MANIFEST }) throw UsageException(context.getString(R.string.no_bundle_folder, name))
        }

        override fun copyTo(target: File, copy: Copy) {
            for (file in files) documents.open(file.uri).use { copy.write(it, inside(target, file.path)) }
        }
    }

    private inner class BundleZip(private val documents: Documents, private val uri: Uri) : Source {
        private val document = documents.describe(uri)
        override val name = cleaned(document.path.removeSuffix(".zip"), "bundle")
        override val bytes = document.bytes // compressed: the least that is needed

        override fun copyTo(target: File, copy: Copy) {
            val zip = ZipInputStream(documents.open(uri).buffered())
            zip.use {
                for (entry in generateSequence { zip.nextEntry }) {
                    if (!entry.isDirectory) copy.write(zip, inside(target, entry.name))
                }
            }
            lift(target)
            if (!File(target, MANIFEST).isFile) throw UsageException(context.getString(R.string.no_bundle_zip, name))
        }

        /** A zip of a folder holds that folder; the bundle is what is in it. */
        private fun lift(target: File) {
            val folder = target.listFiles()?.singleOrNull()?.takeIf { it.isDirectory && File(it, MANIFEST).isFile } ?: return
            val away = File(target.parentFile, ".lifting")
            away.deleteRecursively()
            if (folder.renameTo(away) && target.delete()) away.renameTo(target)
        }
    }

    private inner class DataFile(private val documents: Documents, private val uri: Uri) : Source {
        private val document = documents.describe(uri)
        override val name = cleaned(document.path, "data.jsonl")
        override val bytes = document.bytes

        override fun copyTo(target: File, copy: Copy) = documents.open(uri).use { copy.write(it, target) }
    }

    /** A file inside the copy; names come from elsewhere and may try to lead out of it. */
    private fun inside(target: File, path: String): File {
        val file = File(target, path).canonicalFile
        if (!file.startsWith(target.canonicalFile)) throw UsageException(context.getString(R.string.path_outside, "file", path))
        return file
    }

    private fun cleaned(name: String, otherwise: String) =
        name.replace(Regex("[^\\p{L}\\p{N}._ -]"), "_").trimStart('.', ' ').take(80).trim().ifEmpty { otherwise }

    private class Cancelled : RuntimeException()

    private companion object {
        /** Left free, in bytes: checkpoints and logs need room too, and Android itself. */
        const val RESERVE = 100_000_000L
    }
}
