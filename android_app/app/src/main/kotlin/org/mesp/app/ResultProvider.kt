package org.mesp.app

import android.content.ContentProvider
import android.content.ContentValues
import android.database.Cursor
import android.database.MatrixCursor
import android.net.Uri
import android.os.ParcelFileDescriptor
import android.provider.OpenableColumns
import java.io.File
import java.io.FileNotFoundException
import org.mesp.app.storage.Results

/**
 * Lets an app that the person shares a result with read that file, and nothing else: it is not exported, and the permission goes with the address
 * that is shared.
 */
class ResultProvider : ContentProvider() {
    override fun onCreate() = true

    override fun getType(uri: Uri): String? = if (file(uri) == null) null else Results.TYPE

    override fun openFile(uri: Uri, mode: String): ParcelFileDescriptor {
        if (mode != "r") throw SecurityException("A result can be read only.")
        return ParcelFileDescriptor.open(file(uri) ?: throw FileNotFoundException(uri.toString()), ParcelFileDescriptor.MODE_READ_ONLY)
    }

    override fun query(uri: Uri, columns: Array<String>?, what: String?, arguments: Array<String>?, order: String?): Cursor {
        val known = arrayOf(OpenableColumns.DISPLAY_NAME, OpenableColumns.SIZE)
        val asked = (columns ?: known).filter { it in known }
        val rows = MatrixCursor(asked.toTypedArray())
        file(uri)?.let { file -> rows.addRow(asked.map { if (it == OpenableColumns.SIZE) file.length() else file.name }) }
        return rows
    }

    private fun file(uri: Uri): File? = Results.fileOf(context!!, uri)

    override fun insert(uri: Uri, values: ContentValues?): Uri? = null

    override fun update(uri: Uri, values: ContentValues?, what: String?, arguments: Array<String>?) = 0

    override fun delete(uri: Uri, what: String?, arguments: Array<String>?) = 0
}
