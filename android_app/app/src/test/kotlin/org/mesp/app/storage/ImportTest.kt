package org.mesp.app.storage

import android.app.Activity
import android.content.ContentProvider
import android.content.ContentValues
import android.content.Intent
import android.database.Cursor
import android.database.MatrixCursor
import android.net.Uri
import android.provider.DocumentsContract
import android.provider.DocumentsContract.Document
import android.provider.OpenableColumns
import android.view.View
import java.io.ByteArrayInputStream
import java.io.ByteArrayOutputStream
import java.io.File
import java.io.InputStream
import java.util.zip.ZipEntry
import java.util.zip.ZipOutputStream
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.mesp.app.MainActivity
import org.mesp.app.R
import org.mesp.app.TestPhone
import org.mesp.app.state.text
import org.mesp.app.text
import org.robolectric.RobolectricTestRunner
import org.robolectric.Shadows.shadowOf
import org.robolectric.android.controller.ContentProviderController

/** What is picked is copied into the app's files, whole or not at all. */
@RunWith(RobolectricTestRunner::class)
class ImportTest {
    private val phone = TestPhone(withFiles = false)
    private val bundles = phone.app.folders.bundles
    private val data = phone.app.folders.data

    private fun pick(button: Int, uri: Uri): MainActivity {
        val activity = phone.open()
        activity.findViewById<View>(button).performClick()
        val asked = shadowOf(activity).nextStartedActivityForResult.intent
        shadowOf(activity).receiveResult(asked, Activity.RESULT_OK, Intent().setData(uri))
        phone.idle()
        return activity
    }

    private fun document(name: String, bytes: ByteArray): Uri {
        val uri = Uri.parse("content://documents/$name")
        shadowOf(phone.application.contentResolver).registerInputStream(uri, ByteArrayInputStream(bytes))
        return uri
    }

    private fun zip(vararg files: Pair<String, String>): ByteArray {
        val bytes = ByteArrayOutputStream()
        ZipOutputStream(bytes).use { zip ->
            for ((name, text) in files) {
                zip.putNextEntry(ZipEntry(name))
                zip.write(text.toByteArray())
            }
        }
        return bytes.toByteArray()
    }

    private fun nothingIsLeft() = assertEquals(emptyList<String>(), bundles.list().orEmpty().filter { it != "kept" })

    @Test
    fun `copies data and chooses it`() {
        pick(R.id.choose_file, document("hamlet.txt", "Who's there?".toByteArray()))
        assertEquals("Who's there?", data.resolve("hamlet.txt").readText())
        assertEquals("hamlet.txt", phone.state.form.data)
        assertNull(phone.state.importing)
        pick(R.id.choose_file, document("hamlet.txt", "Stand".toByteArray()))
        assertEquals("the first is kept", listOf("hamlet-2.txt", "hamlet.txt"), data.list()!!.sorted())
        assertEquals("hamlet-2.txt", phone.state.form.data)
    }

    @Test
    fun `unpacks a zip of a bundle's folder`() {
        pick(R.id.choose_zip, document("tiny.zip", zip("tiny/manifest.json" to "{}", "tiny/tokenizer/tokenizer.json" to "[]")))
        assertEquals("{}", bundles.resolve("tiny/manifest.json").readText())
        assertEquals("[]", bundles.resolve("tiny/tokenizer/tokenizer.json").readText())
        assertEquals("tiny", phone.state.form.bundle)
    }

    @Test
    fun `unpacks a zip of a bundle's files`() {
        pick(R.id.choose_zip, document("tiny.zip", zip("manifest.json" to "{}", "program.pte" to "P")))
        assertEquals(setOf("manifest.json", "program.pte"), bundles.resolve("tiny").list()!!.toSet())
    }

    @Test
    fun `refuses a zip that is no bundle or leads elsewhere`() {
        val activity = pick(R.id.choose_zip, document("photos.zip", zip("a.jpg" to "", "b.jpg" to "")))
        assertTrue(activity.text(R.id.setup, R.id.message_text).contains("holds no bundle"))
        nothingIsLeft()
        pick(R.id.choose_zip, document("evil.zip", zip("manifest.json" to "{}", "../../evil" to "")))
        assertTrue(phone.state.message!!.contains("leads out of the app's files"))
        nothingIsLeft()
        assertFalse(File(phone.app.folders.root.parentFile, "evil").exists())
    }

    @Test
    fun `removes what was copied when the source breaks off`() {
        val uri = Uri.parse("content://documents/broken.zip")
        val whole = zip("manifest.json" to "{}", "program.pte" to "P".repeat(100_000))
        val broken =
            object : InputStream() {
                private val bytes = ByteArrayInputStream(whole, 0, 60)

                override fun read() = bytes.read().also { if (it < 0) throw java.io.IOException("the card was taken out") }
            }
        shadowOf(phone.application.contentResolver).registerInputStream(uri, broken)
        pick(R.id.choose_zip, uri)
        assertTrue(phone.state.message!!.contains("the card was taken out"))
        nothingIsLeft()
    }

    @Test
    fun `copies a folder of any depth`() {
        val source = folder("smollm2").apply {
            resolve("manifest.json").writeText("{}")
            resolve("tokenizer").mkdirs()
            resolve("tokenizer/tokenizer.json").writeText("[]")
        }
        pick(R.id.choose_folder, tree(source))
        assertNull(phone.state.message)
        assertEquals("{}", bundles.resolve("smollm2/manifest.json").readText())
        assertEquals("[]", bundles.resolve("smollm2/tokenizer/tokenizer.json").readText())
        assertEquals("smollm2", phone.state.form.bundle)
    }

    @Test
    fun `refuses a folder that is no bundle`() {
        pick(R.id.choose_folder, tree(folder("holiday").apply { resolve("a.jpg").writeText("") }))
        assertEquals(
            "The folder holiday is not a bundle: it has no manifest.json. Choose the folder that mesp export wrote.",
            phone.state.message,
        )
        nothingIsLeft()
    }

    @Test
    fun `refuses what there is no room for`() {
        val source = folder("large").apply { resolve("manifest.json").writeText("{}") }
        FakeDocuments.claimedBytes = Long.MAX_VALUE / 2
        try {
            pick(R.id.choose_folder, tree(source))
        } finally {
            FakeDocuments.claimedBytes = null
        }
        assertTrue(phone.state.message!!.contains("There is no room for the copy"))
        nothingIsLeft()
    }

    private fun folder(name: String) = phone.application.cacheDir.resolve("source/$name").apply { mkdirs() }

    private fun tree(folder: File): Uri {
        FakeDocuments.root = folder
        ContentProviderController.of(FakeDocuments()).create("org.mesp.test.documents")
        val tree = DocumentsContract.buildTreeDocumentUri("org.mesp.test.documents", "/")
        for (file in folder.walkTopDown().filter { it.isFile }) {
            val uri = DocumentsContract.buildDocumentUriUsingTree(tree, "/" + file.relativeTo(folder).path)
            shadowOf(phone.application.contentResolver).registerInputStream(uri, file.inputStream())
        }
        return tree
    }
}

/** A document provider over a folder; a document's id is its path. */
class FakeDocuments : ContentProvider() {
    override fun onCreate() = true

    override fun query(uri: Uri, columns: Array<String>?, what: String?, arguments: Array<String>?, order: String?): Cursor {
        val rows = MatrixCursor(columns)
        val file = file(uri)
        val found = if (uri.lastPathSegment == "children") file.listFiles()!!.toList() else listOf(file)
        for (item in found) rows.addRow(columns!!.map { value(item, it) })
        return rows
    }

    private fun value(file: File, column: String): Any? =
        when (column) {
            Document.COLUMN_DOCUMENT_ID -> "/" + file.relativeTo(root).path
            Document.COLUMN_DISPLAY_NAME, OpenableColumns.DISPLAY_NAME -> file.name
            Document.COLUMN_MIME_TYPE -> if (file.isDirectory) Document.MIME_TYPE_DIR else "application/octet-stream"
            Document.COLUMN_SIZE, OpenableColumns.SIZE -> claimedBytes ?: file.length()
            else -> null
        }

    private fun file(uri: Uri) = root.resolve(DocumentsContract.getDocumentId(uri).trimStart('/')).canonicalFile

    override fun getType(uri: Uri): String? = null

    override fun insert(uri: Uri, values: ContentValues?): Uri? = null

    override fun delete(uri: Uri, what: String?, arguments: Array<String>?) = 0

    override fun update(uri: Uri, values: ContentValues?, what: String?, arguments: Array<String>?) = 0

    companion object {
        lateinit var root: File
        var claimedBytes: Long? = null
    }
}
