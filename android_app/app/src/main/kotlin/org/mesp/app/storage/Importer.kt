package org.mesp.app.storage

import android.content.Context
import android.net.Uri
import java.io.File
import java.io.IOException
import java.util.zip.ZipException
import org.mesp.app.R
import org.mesp.app.phone.Logcat
import org.mesp.app.phone.isStorageFull
import org.mesp.app.phone.reasonOf
import org.mesp.app.state.Import
import org.mesp.app.state.Store
import org.mesp.core.MespException

/** What can be imported. */
enum class ImportKind { DATA, BUNDLE_FOLDER, BUNDLE_ZIP }

/**
 * Copies what the person picked into the app's own files, since native code maps files by path and a document has none. A copy has a hidden name
 * until it is whole. One that fails or is cancelled leaves nothing.
 *
 * @param shelf is asked to look again after each
 */
class Importer(private val context: Context, private val folders: Folders, private val store: Store, private val shelf: Shelf) {
    @Volatile private var copy: Copy? = null
    @Volatile private var cancelled = false
    private val documents by lazy { Documents(context.contentResolver) }

    /** Takes the place of the one import that there can be; false if there is one. [run] is to follow. */
    fun begin(): Boolean {
        var begun = false
        store.update { state ->
            begun = state.importing == null
            if (begun) state.copy(importing = Import(""), message = null) else state
        }
        if (begun) cancelled = false
        return begun
    }

    fun cancel() {
        cancelled = true
        copy?.cancel()
    }

    /** Copies, to the end, and leaves what went wrong in the state. */
    fun run(kind: ImportKind, uri: Uri) {
        val message =
            try {
                val source =
                    when (kind) {
                        ImportKind.DATA -> DataFile(documents, uri)
                        ImportKind.BUNDLE_FOLDER -> BundleFolder(context, documents, uri)
                        ImportKind.BUNDLE_ZIP -> BundleZip(context, documents, uri)
                    }
                take(if (kind == ImportKind.DATA) folders.allData else folders.allBundles, source)
                null
            } catch (_: Cancelled) {
                null
            } catch (error: Exception) {
                if (cancelled) null else reason(error).also { Logcat.error("import", null, it, error) }
            }
        store.update { it.copy(importing = null, message = message) }
        shelf.refresh()
    }

    /** Into the first of these folders; [all] have names that are taken. */
    private fun take(all: List<File>, source: Source) {
        store.update { it.copy(importing = Import(source.name, 0, source.bytes)) }
        val folder = all.first().apply { mkdirs() }
        val new = File(folder, NEW)
        new.deleteRecursively()
        try {
            val copy = Copy(context, new, source.bytes) { done -> store.update { it.copy(importing = it.importing?.copy(done = done)) } }
            this.copy = copy
            if (cancelled) throw Cancelled()
            source.copyTo(copy)
            val place = freePlace(all, folder, source.name)
            if (!new.renameTo(place)) throw MespException(context.getString(R.string.copy_failed, source.name))
            choose(folder, place.name)
        } finally {
            copy = null
            new.deleteRecursively()
            File(folder, LIFTED).deleteRecursively()
        }
    }

    private fun choose(folder: File, name: String) =
        store.update {
            it.copy(form = if (folder == folders.ownBundles) it.form.copy(bundle = name) else it.form.copy(data = name))
        }

    private fun reason(error: Exception): String =
        when {
            error is MespException -> error.message.orEmpty()
            isStorageFull(error) -> context.getString(R.string.import_full)
            error is ZipException -> context.getString(R.string.import_zip_damaged, error.message)
            // The document was moved or deleted, its provider was ended, or Android took the permission back.
            error is IOException || error is SecurityException || error is IllegalArgumentException ->
                context.getString(R.string.import_source_gone, error.message ?: error.javaClass.simpleName)
            else -> reasonOf(context, error)
        }

    internal companion object {
        const val NEW = ".importing"
        const val LIFTED = ".lifting"
    }
}
