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
import java.util.concurrent.CountDownLatch
import java.util.concurrent.Executor
import java.util.zip.ZipEntry
import java.util.zip.ZipOutputStream
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.mesp.app.ImportService
import org.mesp.app.MainActivity
import org.mesp.app.R
import org.mesp.app.TestPhone
import org.mesp.app.actionTitles
import org.mesp.app.service.ImportNotification
import org.mesp.app.title
import org.mesp.app.state.text
import org.mesp.app.text
import org.robolectric.RobolectricTestRunner
import org.robolectric.Shadows.shadowOf
import org.robolectric.android.controller.ContentProviderController

/** What is picked is copied into the app's files, whole or not at all. */
@RunWith(RobolectricTestRunner::class)
class ImportTest {
    private val phone = TestPhone(withFiles = false)
    private val folders = phone.app.folders
    private val bundles = folders.ownBundles
    private val data = folders.ownData

    private fun pick(button: Int, uri: Uri): MainActivity {
        val activity = phone.open()
        activity.findViewById<View>(button).performClick()
        val asked = shadowOf(activity).nextStartedActivityForResult.intent
        shadowOf(activity).receiveResult(asked, Activity.RESULT_OK, Intent().setData(uri))
        phone.deliver()
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

    private fun nothingIsLeft() = assertEquals(emptyList<String>(), listOf(bundles, data).flatMap { it.list().orEmpty().toList() })

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
        assertTrue(phone.state.message!!.contains("could not be read to its end: the card was taken out"))
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
        val holiday = folder("holiday").apply { resolve("more/and/more").mkdirs() }
        FakeDocuments.listings = 0
        pick(R.id.choose_folder, tree(holiday))
        assertEquals("a whole card is not looked through", 1, FakeDocuments.listings)
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

    @Test
    fun `what is chosen is in the app's own storage, and what a harness sent outside of it`() {
        val inside = phone.application.dataDir
        assertTrue(data.startsWith(inside) && bundles.startsWith(inside))
        assertFalse(folders.data.startsWith(inside))
        pick(R.id.choose_file, document("letters.txt", "Dear diary".toByteArray()))
        assertEquals(emptyList<String>(), folders.root.walk().filter { it.isFile }.map { it.name }.toList())
        folders.data.mkdirs()
        folders.data.resolve("letters.txt").writeText("sent")
        assertEquals("Dear diary", folders.below(folders.dataPath("letters.txt"))!!.readText())
        assertEquals("sent", folders.below("data/letters.txt")!!.readText())
        for (path in listOf("own/../../shared_prefs/mesp.xml", "own/data/../../x", "/data/system", "../x")) assertNull(path, folders.below(path))
    }

    @Test
    fun `what a killed copy left is removed when the app is opened, and texts of an earlier version are taken in`() {
        folders.allBundles.forEach { it.resolve(Importer.NEW).apply { mkdirs() }.resolve("weights.safetensors").writeText("half") }
        val sent = "sent"
        val digest = java.security.MessageDigest.getInstance("SHA-256").digest(sent.toByteArray()).joinToString("") { "%02x".format(it) }
        folders.data.mkdirs()
        folders.data.resolve("rows-${digest.take(8)}.jsonl").writeText(sent)
        folders.data.resolve("diary.txt").writeText("Dear diary")
        folders.data.resolve("diary-00000000.txt").writeText("Another")
        data.mkdirs()
        data.resolve("diary.txt").writeText("Newer")
        val resolver = phone.application.contentResolver
        resolver.takePersistableUriPermission(Uri.parse("content://documents/a"), Intent.FLAG_GRANT_READ_URI_PERMISSION)
        phone.open()
        assertEquals(emptyList<Uri>(), resolver.persistedUriPermissions.map { it.uri })
        assertEquals(emptyList<String>(), folders.allBundles.flatMap { it.list()!!.toList() })
        assertEquals(listOf("rows-${digest.take(8)}.jsonl"), folders.data.list()!!.toList())
        assertEquals(mapOf("diary.txt" to "Newer", "diary-2.txt" to "Dear diary", "diary-00000000.txt" to "Another"), data.listFiles()!!.associate { it.name to it.readText() })
        assertEquals("an unfinished run's data is found", "Another", folders.below("data/diary-00000000.txt")!!.readText())
    }

    @Test
    fun `what computers leave in archives and folders is left out`() {
        val junk = arrayOf("__MACOSX/tiny/._manifest.json" to "", "tiny/.DS_Store" to "", "tiny/._program.pte" to "", "desktop.ini" to "")
        pick(R.id.choose_zip, document("tiny.zip", zip("tiny/manifest.json" to "{}", "tiny\\program.pte" to "P", *junk)))
        assertNull(phone.state.message)
        assertEquals(setOf("manifest.json", "program.pte"), bundles.resolve("tiny").list()!!.toSet())
        val source = folder("mac").apply { for (name in listOf("manifest.json", ".DS_Store", "._manifest.json")) resolve(name).writeText("{}") }
        pick(R.id.choose_folder, tree(source))
        assertEquals(listOf("manifest.json"), bundles.resolve("mac").list()!!.toList())
    }

    @Test
    fun `an archive that unpacks without end is refused`() {
        val bytes = ByteArrayOutputStream()
        ZipOutputStream(bytes).use { zip ->
            zip.putNextEntry(ZipEntry("manifest.json"))
            val zeros = ByteArray(1 shl 20)
            repeat(120) { zip.write(zeros) }
        }
        pick(R.id.choose_zip, document("bomb.zip", bytes.toByteArray()))
        assertTrue(phone.state.message!!, phone.state.message!!.contains("more than 20 times its own size"))
        nothingIsLeft()
        pick(R.id.choose_zip, document("many.zip", zip(*Array(1001) { "$it" to "" })))
        assertTrue(phone.state.message!!, phone.state.message!!.contains("more than 1000 files"))
        nothingIsLeft()
    }

    @Test
    fun `a damaged archive, a storage that becomes full and a permission that is taken back are told, and nothing is left`() {
        fun failing(error: Exception) =
            object : InputStream() {
                private var left = 100_000

                override fun read() = if (left-- > 0) 'a'.code else throw error
            }
        for ((error, words) in
            listOf(
                java.io.IOException("write failed: ENOSPC (No space left on device)") to "The storage became full while the copy was made",
                SecurityException("Permission Denial") to "could not be read to its end: Permission Denial",
                java.io.FileNotFoundException("gone") to "could not be read to its end: gone",
            )) {
            val uri = Uri.parse("content://documents/a.txt")
            shadowOf(phone.application.contentResolver).registerInputStream(uri, failing(error))
            pick(R.id.choose_file, uri)
            assertTrue(phone.state.message!!, phone.state.message!!.contains(words))
            nothingIsLeft()
        }
        val whole = zip("manifest.json" to "{}", "program.pte" to "P".repeat(1000))
        pick(R.id.choose_zip, document("a.zip", whole.also { it[60] = (it[60] + 1).toByte() }))
        assertTrue(phone.state.message!!, phone.state.message!!.contains("The archive is damaged"))
        nothingIsLeft()
    }

    @Test
    fun `a document that ends before its size is no copy`() {
        val source = folder("short").apply { resolve("manifest.json").writeText("{}") }
        FakeDocuments.claimedBytes = 3000
        try {
            pick(R.id.choose_folder, tree(source))
        } finally {
            FakeDocuments.claimedBytes = null
        }
        assertTrue(phone.state.message!!, phone.state.message!!.startsWith("The copy is not whole"))
        nothingIsLeft()
    }

    @Test
    fun `a copy goes on without the screen, shows how far it is, and is cancelled`() {
        phone.app.copies = Executor { Thread(it).start() }
        val waits = CountDownLatch(1)
        val endless =
            object : InputStream() {
                override fun read() = 'a'.code

                override fun read(buffer: ByteArray, from: Int, length: Int): Int {
                    if (phone.state.importing!!.done > 5_000_000) waits.await()
                    return length
                }

                override fun close() = waits.countDown()
            }
        val uri = Uri.parse("content://documents/endless.txt")
        shadowOf(phone.application.contentResolver).registerInputStream(uri, endless)
        val service = phone.copy(ImportService.intent(phone.application, ImportKind.DATA, uri))
        phone.await("a part of the copy") { phone.notification(ImportNotification.ID)?.title()?.contains("MB") == true }
        assertEquals(listOf(phone.application.getString(R.string.cancel)), phone.notification(ImportNotification.ID)!!.actionTitles())
        assertTrue(shadowOf(service.get()).isForegroundStopped.not())
        fun kept() = phone.application.contentResolver.persistedUriPermissions.map { it.uri }
        assertEquals("the permission outlives the screen", listOf(uri), kept())
        phone.copy(ImportService.intent(phone.application, ImportKind.DATA, uri)) // a second one waits for nothing and changes nothing
        assertTrue(phone.state.importing!!.done > 0)
        phone.app.importer.cancel()
        phone.await("the end") { phone.state.importing == null && shadowOf(service.get()).isStoppedBySelf }
        assertNull(phone.state.message)
        assertEquals(emptyList<Uri>(), kept())
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
        if (uri.lastPathSegment == "children") listings++
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
        var listings = 0
    }
}
