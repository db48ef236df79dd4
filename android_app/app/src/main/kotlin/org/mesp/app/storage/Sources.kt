package org.mesp.app.storage

import android.content.Context
import android.net.Uri
import java.io.InputStream
import java.util.zip.ZipInputStream
import org.mesp.app.R
import org.mesp.core.UsageException
import org.mesp.core.engine.MANIFEST

/** Something to copy. */
internal interface Source {
    val name: String

    /** Null where the source does not tell. */
    val bytes: Long?

    fun copyTo(copy: Copy)
}

internal class DataFile(private val documents: Documents, private val uri: Uri) : Source {
    private val document = documents.describe(uri)
    override val name = cleaned(document.path, "data.jsonl")
    override val bytes = document.bytes

    override fun copyTo(copy: Copy) {
        copy.source(documents.open(uri)) { copy.write(it) }
        copy.endedEarly(bytes, copy.read)
    }
}

internal class BundleFolder(context: Context, private val documents: Documents, tree: Uri) : Source {
    override val name = cleaned(documents.treeName(tree), "bundle")
    private val files: List<Documents.Item>

    init {
        // Before all that is below it is looked through: the person may have chosen a whole card.
        if (!documents.has(tree, MANIFEST)) throw UsageException(context.getString(R.string.no_bundle_folder, name))
        files = documents.tree(tree).filterNot { isClutter(it.path) }
    }

    override val bytes = files.sumOf { it.bytes ?: 0 }

    override fun copyTo(copy: Copy) {
        for (file in files) {
            val before = copy.read
            copy.source(documents.open(file.uri)) { copy.write(it, file.path) }
            copy.endedEarly(file.bytes, copy.read - before)
        }
    }
}

internal class BundleZip(private val context: Context, private val documents: Documents, private val uri: Uri) : Source {
    private val document = documents.describe(uri)
    override val name = cleaned(document.path.removeSuffix(".zip"), "bundle")
    override val bytes = document.bytes // compressed: the least that is needed

    override fun copyTo(copy: Copy) {
        copy.source(documents.open(uri)) { stream ->
            unpack(stream, copy)
            // After the last file comes the list of all of them: without it the archive was cut off.
            stream.skipToEnd()
        }
        copy.endedEarly(bytes, copy.read)
        lift(copy)
        if (!copy.target.resolve(MANIFEST).isFile) throw UsageException(context.getString(R.string.no_bundle_zip, name))
    }

    private fun unpack(stream: InputStream, copy: Copy) {
        val zip = ZipInputStream(stream.buffered())
        for (entry in generateSequence { zip.nextEntry }) {
            val path = entry.name.replace('\\', '/') // as some archives of Windows have it
            copy.check()
            if (!entry.isDirectory && !isClutter(path)) copy.write(zip, path)
        }
    }

    private fun InputStream.skipToEnd() {
        val buffer = ByteArray(1 shl 16)
        while (read(buffer) >= 0) Unit
    }

    /** A zip of a folder holds that folder; the bundle is what is in it. */
    private fun lift(copy: Copy) {
        val folder = copy.target.listFiles()?.singleOrNull()?.takeIf { it.isDirectory && it.resolve(MANIFEST).isFile } ?: return
        val away = copy.target.resolveSibling(Importer.LIFTED)
        away.deleteRecursively()
        if (folder.renameTo(away) && copy.target.delete()) away.renameTo(copy.target)
    }
}

/** What computers leave in folders and archives. */
internal fun isClutter(path: String): Boolean =
    path.split('/').let { parts -> "__MACOSX" in parts || parts.last().let { it.startsWith("._") || it in CLUTTER } }

private val CLUTTER = setOf(".DS_Store", "desktop.ini", "Thumbs.db")

private fun cleaned(name: String, otherwise: String) =
    name.replace(Regex("[^\\p{L}\\p{N}._ -]"), "_").trimStart('.', ' ').take(80).trim().ifEmpty { otherwise }
