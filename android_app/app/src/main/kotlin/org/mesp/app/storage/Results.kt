package org.mesp.app.storage

import android.content.Context
import android.net.Uri
import android.os.ParcelFileDescriptor
import android.provider.DocumentsContract
import java.io.File
import java.io.FileNotFoundException
import java.io.FileOutputStream
import java.io.IOException
import java.io.OutputStream
import java.util.concurrent.Executor
import java.util.zip.ZipEntry
import java.util.zip.ZipOutputStream
import org.mesp.app.R
import org.mesp.app.phone.reasonOf
import org.mesp.app.state.Store
import org.mesp.core.replacing

/**
 * A run's result on its way off the phone: a .zip of its adapter. It is packed in the app's cache first, whole, whether it is then saved where the
 * person chose or shared with another app.
 *
 * @param background where it is packed and copied
 */
class Results(private val context: Context, private val folders: Folders, private val store: Store, private val background: Executor) {
    private val documents by lazy { Documents(context.contentResolver) }

    /** Writes a run's result into a document that the picker made. One that cannot be written whole is removed again. */
    fun save(run: String, place: Uri) =
        background.execute {
            val message =
                try {
                    copy(pack(run), place)
                    context.getString(R.string.saved, documents.describe(place).path)
                } catch (error: Exception) { // another app's provider may throw anything
                    context.getString(if (remove(place)) R.string.save_failed else R.string.save_failed_leaves, reasonOf(context, error))
                }
            store.update { it.copy(message = message) }
        }

    /** Packs a run's result, and tells its address, with which it can be given to another app; tells of a failure itself. */
    fun share(run: String, packed: (Uri) -> Unit) =
        background.execute {
            try {
                packed(uriOf(pack(run)))
            } catch (error: IOException) {
                store.update { it.copy(message = context.getString(R.string.share_failed, reasonOf(context, error))) }
            }
        }

    private fun pack(run: String): File {
        val adapter = RunFolder(File(folders.runs, run)).adapter ?: throw FileNotFoundException("$run/adapter")
        val folder = folder(context)
        folder.mkdirs()
        // An app that was given one may take its time to read it.
        folder.listFiles().orEmpty().filter { System.currentTimeMillis() - it.lastModified() > A_DAY }.forEach(File::delete)
        val zip = File(folder, "$run$ZIP")
        replacing(zip) { new -> new.outputStream().buffered().use { write(adapter, run, it) } }
        return zip
    }

    private fun write(adapter: File, name: String, output: OutputStream) {
        val zip = ZipOutputStream(output)
        for (file in adapter.listFiles().orEmpty().filter { it.isFile }.sorted()) {
            zip.putNextEntry(ZipEntry("$name/${file.name}"))
            file.inputStream().use { it.copyTo(zip) }
        }
        zip.finish()
    }

    private fun copy(zip: File, place: Uri) {
        // "t": a file that is replaced may have been longer, and its end would stay.
        val target = context.contentResolver.openFileDescriptor(place, "wt") ?: throw FileNotFoundException(place.toString())
        target.use {
            FileOutputStream(it.fileDescriptor).let { output -> zip.inputStream().use { input -> input.copyTo(output) } }
            check(it, zip.length())
        }
    }

    /** Another app takes what is written: by a file, which has a length, or by a pipe, whose other end tells of errors. */
    private fun check(target: ParcelFileDescriptor, bytes: Long) {
        if (target.canDetectErrors()) target.checkError()
        val there = target.statSize
        if (there < 0) return
        target.fileDescriptor.sync()
        if (there != bytes) throw IOException("$there of $bytes bytes are there")
    }

    private fun remove(place: Uri): Boolean =
        try {
            DocumentsContract.deleteDocument(context.contentResolver, place)
        } catch (_: Exception) { // it is gone already, or its provider does not let it be removed
            false
        }

    companion object {
        private const val ZIP = ".zip"
        private const val A_DAY = 24 * 3600 * 1000L
        const val TYPE = "application/zip"

        private fun folder(context: Context) = File(context.cacheDir, "results")

        /** The name that a run's result is saved under, if the person does not choose another. */
        fun fileName(run: String) = run + ZIP

        private fun uriOf(zip: File): Uri = Uri.Builder().scheme("content").authority(AUTHORITY).appendPath(zip.name).build()

        const val AUTHORITY = "org.mesp.app.results"

        /** The file that an address is of, null if it is none of these: the address comes from another app. */
        fun fileOf(context: Context, uri: Uri): File? {
            val name = uri.pathSegments.singleOrNull() ?: return null
            if (!name.endsWith(ZIP) || !Folders.isName(name.removeSuffix(ZIP))) return null
            return File(folder(context), name).takeIf { it.isFile }
        }
    }
}
