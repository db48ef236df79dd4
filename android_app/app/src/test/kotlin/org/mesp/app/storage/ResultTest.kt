package org.mesp.app.storage

import android.app.Activity
import android.content.ContentProvider
import android.content.ContentValues
import android.content.Intent
import android.database.Cursor
import android.database.MatrixCursor
import android.net.Uri
import android.os.Bundle
import android.os.ParcelFileDescriptor
import android.provider.DocumentsContract
import android.provider.OpenableColumns
import android.view.View
import java.io.File
import java.io.FileNotFoundException
import java.util.zip.ZipInputStream
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.mesp.app.MainActivity
import org.mesp.app.R
import org.mesp.app.ResultProvider
import org.mesp.app.TestPhone
import org.mesp.app.isShown
import org.mesp.app.service.FakeTrainer
import org.mesp.app.state.Status
import org.robolectric.RobolectricTestRunner
import org.robolectric.Shadows.shadowOf
import org.robolectric.android.controller.ContentProviderController

/** A result leaves the phone, whole or not at all. */
@RunWith(RobolectricTestRunner::class)
class ResultTest {
    private val phone = TestPhone()
    private val place = FakePlace(phone.application.cacheDir.resolve("place.zip"))
    private val uri = DocumentsContract.buildDocumentUri("org.mesp.test.place", "1")

    init {
        ContentProviderController.of(place).create("org.mesp.test.place")
        phone.startRun()
        phone.trainer.letStep(3)
        phone.awaitStatus(Status.DONE)
    }

    private fun save(): MainActivity {
        val activity = phone.open()
        activity.findViewById<View>(R.id.save).performClick()
        val asked = shadowOf(activity).nextStartedActivityForResult.intent
        assertEquals(Intent.ACTION_CREATE_DOCUMENT, asked.action)
        assertEquals("application/zip", asked.type)
        assertEquals("first.zip", asked.getStringExtra(Intent.EXTRA_TITLE))
        // The phone is turned, or the process ended and begun anew, while the picker is there.
        val other = phone.recreate()
        shadowOf(other).receiveResult(asked, Activity.RESULT_OK, Intent().setData(uri))
        phone.idle()
        return other
    }

    private fun names(zip: File) = ZipInputStream(zip.inputStream()).use { stream -> generateSequence { stream.nextEntry?.name }.toList() }

    @Test
    fun `saves the adapter where the person chose`() {
        place.file.writeText("longer than the zip before ".repeat(1000))
        save()
        assertEquals("The result is saved as place.zip.", phone.state.message)
        assertEquals(FakeTrainer.ADAPTER.map { "first/$it" }, names(place.file))
        assertEquals("nothing of what was there stays", File(phone.application.cacheDir, "results/first.zip").length(), place.file.length())
    }

    @Test
    fun `a save that fails says so, and leaves nothing`() {
        place.file.writeText("")
        place.refuses = true
        save()
        assertTrue(phone.state.message!!.startsWith("The result was not saved, and nothing is left of it"))
        assertFalse(place.file.exists())
    }

    @Test
    fun `a save that is cut off says so, and leaves nothing`() {
        place.cuts = true
        save()
        assertTrue(phone.state.message, phone.state.message!!.startsWith("The result was not saved, and nothing is left of it"))
        assertFalse(place.file.exists())
    }

    @Test
    fun `says where something is left that cannot be removed`() {
        place.refuses = true
        place.keeps = true
        save()
        assertTrue(phone.state.message!!.contains("Remove the file at the place that you chose"))
    }

    @Test
    fun `shares the adapter, which the other app may read and no more`() {
        val activity = phone.open()
        activity.findViewById<View>(R.id.share).performClick()
        phone.idle()
        @Suppress("DEPRECATION") val send = shadowOf(activity).nextStartedActivity.getParcelableExtra<Intent>(Intent.EXTRA_INTENT)!!
        assertEquals(Intent.ACTION_SEND, send.action)
        @Suppress("DEPRECATION") val shared = send.getParcelableExtra<Uri>(Intent.EXTRA_STREAM)!!
        assertEquals(shared, send.clipData!!.getItemAt(0).uri)
        assertEquals(Intent.FLAG_GRANT_READ_URI_PERMISSION, send.flags and Intent.FLAG_GRANT_READ_URI_PERMISSION)

        val provider = ContentProviderController.of(ResultProvider()).create(Results.AUTHORITY).get()
        assertEquals("application/zip", provider.getType(shared))
        provider.query(shared, null, null, null, null).use {
            assertTrue(it.moveToFirst())
            assertEquals("first.zip", it.getString(0))
            assertEquals(File(phone.application.cacheDir, "results/first.zip").length(), it.getLong(1))
        }
        provider.openFile(shared, "r").use { assertTrue(it.statSize > 0) }
        assertThrows(SecurityException::class.java) { provider.openFile(shared, "rw") }
        for (other in listOf("../results/first.zip", "..%2Ffirst.zip", "first.txt", "none.zip", "")) {
            assertThrows(other, FileNotFoundException::class.java) { provider.openFile(Uri.parse("content://${Results.AUTHORITY}/$other"), "r") }
        }
    }

    @Test
    fun `the provider is not exported, and grants by address`() {
        val info = phone.application.packageManager.resolveContentProvider(Results.AUTHORITY, 0)!!
        assertFalse(info.exported)
        assertTrue(info.grantUriPermissions)
    }

    @Test
    fun `a run that left no result offers none`() {
        phone.runFolder("first").resolve("adapter").deleteRecursively()
        phone.app.shelf.refresh()
        assertFalse(phone.open().isShown(R.id.result))
    }
}

/** Another app's document. */
class FakePlace(val file: File) : ContentProvider() {
    var refuses = false
    var cuts = false
    var keeps = false

    override fun onCreate() = true

    override fun openFile(uri: Uri, mode: String): ParcelFileDescriptor {
        if (refuses) throw FileNotFoundException("the card was taken out")
        val opened = ParcelFileDescriptor.open(file, ParcelFileDescriptor.parseMode(mode))
        return if (cuts) ParcelFileDescriptor.open(file, ParcelFileDescriptor.MODE_READ_ONLY).also { opened.close() } else opened
    }

    override fun call(method: String, argument: String?, extras: Bundle?): Bundle? {
        if (keeps) throw UnsupportedOperationException("Delete not supported")
        file.delete()
        return null
    }

    override fun query(uri: Uri, columns: Array<String>?, what: String?, arguments: Array<String>?, order: String?): Cursor =
        MatrixCursor(columns).apply { addRow(columns!!.map { if (it == OpenableColumns.SIZE) file.length() else file.name }) }

    override fun getType(uri: Uri): String? = null

    override fun insert(uri: Uri, values: ContentValues?): Uri? = null

    override fun delete(uri: Uri, what: String?, arguments: Array<String>?) = 0

    override fun update(uri: Uri, values: ContentValues?, what: String?, arguments: Array<String>?) = 0
}
