package org.mesp.app.storage

import android.content.ContentResolver
import android.net.Uri
import android.provider.DocumentsContract
import android.provider.DocumentsContract.Document
import android.provider.OpenableColumns
import java.io.FileNotFoundException
import java.io.InputStream

/** What the system's document picker gave, by the little that is needed of it. */
class Documents(private val resolver: ContentResolver) {
    /** A document; [path] is its name, or below a tree its path; [bytes] null where the provider does not tell. */
    data class Item(val uri: Uri, val path: String, val bytes: Long?)

    fun open(uri: Uri): InputStream = resolver.openInputStream(uri) ?: throw FileNotFoundException(uri.toString())

    fun describe(uri: Uri): Item {
        val columns = arrayOf(OpenableColumns.DISPLAY_NAME, OpenableColumns.SIZE)
        val found =
            resolver.query(uri, columns, null, null, null)?.use { rows ->
                if (rows.moveToFirst()) rows.getString(0) to (if (rows.isNull(1)) null else rows.getLong(1)) else null
            }
        return Item(uri, found?.first ?: uri.lastPathSegment.orEmpty().substringAfterLast('/'), found?.second)
    }

    fun treeName(tree: Uri): String = describe(DocumentsContract.buildDocumentUriUsingTree(tree, rootOf(tree))).path

    /** Whether there is a file or folder of this name at the top of a tree. */
    fun has(tree: Uri, name: String): Boolean = children(tree, rootOf(tree)).any { it.name == name }

    /** All files below a tree. */
    fun tree(tree: Uri): List<Item> = below(tree, rootOf(tree), "")

    private fun rootOf(tree: Uri) = DocumentsContract.getTreeDocumentId(tree)

    private fun below(tree: Uri, id: String, path: String): List<Item> =
        children(tree, id).flatMap {
            val name = path + it.name
            if (it.isFolder) below(tree, it.id, "$name/") else listOf(Item(DocumentsContract.buildDocumentUriUsingTree(tree, it.id), name, it.bytes))
        }

    private class Child(val id: String, val name: String, val isFolder: Boolean, val bytes: Long?)

    private fun children(tree: Uri, id: String): List<Child> {
        val columns = arrayOf(Document.COLUMN_DOCUMENT_ID, Document.COLUMN_DISPLAY_NAME, Document.COLUMN_MIME_TYPE, Document.COLUMN_SIZE)
        val found = mutableListOf<Child>()
        resolver.query(DocumentsContract.buildChildDocumentsUriUsingTree(tree, id), columns, null, null, null)?.use { rows ->
            while (rows.moveToNext()) {
                val size = if (rows.isNull(3)) null else rows.getLong(3)
                found += Child(rows.getString(0), rows.getString(1), rows.getString(2) == Document.MIME_TYPE_DIR, size)
            }
        }
        return found
    }
}
