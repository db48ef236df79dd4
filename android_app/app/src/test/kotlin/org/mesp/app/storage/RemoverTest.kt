package org.mesp.app.storage

import android.content.DialogInterface
import android.view.View
import android.widget.LinearLayout
import android.widget.TextView
import java.io.File
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.mesp.app.MainActivity
import org.mesp.app.R
import org.mesp.app.TestPhone
import org.mesp.app.isShown
import org.mesp.app.state.Place
import org.mesp.app.state.Status
import org.robolectric.RobolectricTestRunner
import org.robolectric.shadows.ShadowAlertDialog

/** What takes room is listed with its size, and can be removed. */
@RunWith(RobolectricTestRunner::class)
class RemoverTest {
    private val phone = TestPhone()

    private fun files(): MainActivity {
        val activity = phone.open()
        activity.go(Place.FILES)
        phone.idle()
        return activity
    }

    private fun MainActivity.row(list: Int, number: Int = 0): View = findViewById<LinearLayout>(list).getChildAt(number)

    private fun MainActivity.words(list: Int, number: Int = 0) = row(list, number).findViewById<TextView>(R.id.file_text).text.toString()

    private fun delete(activity: MainActivity, list: Int, answer: Int = DialogInterface.BUTTON_POSITIVE) {
        activity.row(list).findViewById<View>(R.id.file_delete).performClick()
        phone.idle()
        ShadowAlertDialog.getLatestAlertDialog().getButton(answer).performClick()
        phone.idle()
    }

    private fun train() {
        phone.startRun()
        phone.trainer.letStep(3)
        phone.awaitStatus(Status.DONE)
        phone.app.store.update { it.copy(run = null) }
    }

    @Test
    fun `lists runs with what they came to, and opens one`() {
        train()
        val activity = files()
        assertTrue(activity.words(R.id.files_runs), activity.words(R.id.files_runs).startsWith("first\nhamlet.txt · 3 steps, not tested · "))
        assertTrue(activity.words(R.id.files_bundles).endsWith("121\u00A0MB"))
        assertEquals("hamlet.txt\n130 kB", activity.words(R.id.files_data))
        activity.row(R.id.files_runs).findViewById<View>(R.id.file_text).performClick()
        phone.idle()
        assertEquals(Status.DONE, phone.run.status)
        assertEquals(listOf(1, 2, 3), phone.run.steps.map { it.step })
        activity.back()
        phone.idle()
        assertTrue("back to where it was opened", activity.isShown(R.id.files))
    }

    @Test
    fun `removes a run, a model and a text, when asked to twice`() {
        train()
        val activity = files()
        delete(activity, R.id.files_runs, DialogInterface.BUTTON_NEGATIVE)
        assertTrue(phone.runFolder("first").exists())
        delete(activity, R.id.files_runs)
        assertFalse(phone.runFolder("first").exists())
        assertEquals("first is removed.", phone.state.message)
        delete(activity, R.id.files_bundles)
        delete(activity, R.id.files_data)
        assertEquals(emptyList<File>(), listOf(phone.app.folders.runs, phone.app.folders.bundles, phone.app.folders.ownData).flatMap { it.listFiles()!!.toList() })
        assertEquals(null, phone.state.form.bundle)
    }

    @Test
    fun `keeps what the run under way reads`() {
        val activity = files()
        phone.startRun()
        phone.awaitInStep(1)
        for (list in listOf(R.id.files_bundles, R.id.files_data)) {
            delete(activity, list)
            assertTrue(phone.state.message!!.contains("is in use by the run that is under way"))
        }
        assertTrue(File(phone.app.folders.bundles, "smollm2-135m").exists() && File(phone.app.folders.ownData, "hamlet.txt").exists())
        phone.trainer.letStep(3)
        phone.awaitStatus(Status.DONE)
    }

    @Test
    fun `finishes at the start what was begun`() {
        val half = File(phone.app.folders.bundles, ".deleting-big").apply { mkdirs() }
        half.resolve("weights.safetensors").writeText("w")
        phone.open()
        assertFalse(half.exists())
    }

    @Test
    fun `asks again when the phone is turned`() {
        val activity = files()
        activity.row(R.id.files_data).findViewById<View>(R.id.file_delete).performClick()
        phone.idle()
        val first = ShadowAlertDialog.getLatestAlertDialog()
        phone.recreate()
        val second = ShadowAlertDialog.getLatestAlertDialog()
        assertFalse(first.isShowing)
        assertTrue(second !== first && second.isShowing)
        second.cancel()
        phone.idle()
        assertEquals(null, phone.state.question)
        assertTrue(File(phone.app.folders.ownData, "hamlet.txt").exists())
    }
}
