package org.mesp.app.screens

import android.app.ActivityManager
import android.app.ApplicationExitInfo
import android.content.DialogInterface
import android.os.Build
import android.provider.Settings
import android.view.View
import android.widget.TextView
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Assume.assumeTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.mesp.app.MainActivity
import org.mesp.app.R
import org.mesp.app.TestPhone
import org.mesp.app.isShown
import org.mesp.app.state.Field
import org.mesp.app.state.Form
import org.mesp.app.state.Pace
import org.mesp.app.state.Pause
import org.mesp.app.state.Status
import org.mesp.app.storage.RunRequest
import org.mesp.app.text
import org.robolectric.RobolectricTestRunner
import org.robolectric.Shadows.shadowOf
import org.robolectric.shadows.ShadowActivityManager.ApplicationExitInfoBuilder
import org.robolectric.shadows.ShadowAlertDialog

/** What the person is told and asked before a run starts: the battery, and what the phone does to apps in the background. */
@RunWith(RobolectricTestRunner::class)
class StartQuestionTest {
    private val phone = TestPhone()

    private fun start(activity: MainActivity) {
        activity.change { it.with(Field.STEPS, "3") }
        activity.findViewById<View>(R.id.start).performClick()
        phone.idle()
    }

    private val dialog get() = ShadowAlertDialog.getLatestAlertDialog()

    private fun asked() = dialog.findViewById<TextView>(android.R.id.message).text.toString()

    private fun answer(button: Int) {
        dialog.getButton(button).performClick()
        phone.idle()
        phone.deliver()
    }

    @Test
    fun `asks nothing where a charger is plugged in`() {
        val activity = phone.open()
        assertEquals("How long it takes is known after the first step.", activity.text(R.id.setup, R.id.estimate))
        start(activity)
        assertNull(phone.state.question)
        phone.deliver()
        phone.trainer.letStep(3)
        phone.awaitStatus(Status.DONE)
    }

    @Test
    fun `tells what a run will take, and starts on the battery if that is wanted`() {
        phone.plug(false, percent = 64)
        phone.app.preferences.paces = mapOf("smollm2-135m" to Pace(400.0, 60.0, 1.0))
        val activity = phone.open()
        start(activity)
        assertEquals("About 22 min and 3% of the battery, by the last run with this model.", activity.text(R.id.setup, R.id.estimate))
        assertEquals(
            "No charger is plugged in, and the battery is at 64%. Training pauses below 20%. " +
                "About 22 min and 3% of the battery, by the last run with this model.",
            asked(),
        )
        answer(DialogInterface.BUTTON_POSITIVE)
        phone.trainer.letStep(3)
        phone.awaitStatus(Status.DONE)
        assertFalse(phone.state.form.onlyWhileCharging)
    }

    @Test
    fun `waits for the charger if that is wanted`() {
        phone.plug(false, percent = 64)
        start(phone.open())
        answer(DialogInterface.BUTTON_NEUTRAL)
        phone.await("the pause") { phone.run.waiting }
        assertEquals(setOf(Pause.NOT_CHARGING), phone.run.pauses)
        assertTrue("and so the next time", phone.state.form.onlyWhileCharging)
        phone.plug(true)
        phone.trainer.letStep(3)
        phone.awaitStatus(Status.DONE)
    }

    @Test
    fun `starts nothing if that is not wanted`() {
        phone.plug(false, percent = 12)
        start(phone.open())
        assertTrue(asked(), asked().contains("Training pauses at once: that is below 20%."))
        answer(DialogInterface.BUTTON_NEGATIVE)
        assertNull(phone.state.question)
        assertNull(phone.state.run)
    }

    @Test
    fun `warns under battery saver, before and during a run`() {
        phone.power.setIsPowerSaveMode(true)
        val activity = phone.open()
        start(activity)
        assertTrue(asked().startsWith("Battery saver is on"))
        assertEquals(View.GONE, dialog.getButton(DialogInterface.BUTTON_NEUTRAL).visibility)
        answer(DialogInterface.BUTTON_POSITIVE)
        phone.await("the note") { activity.text(R.id.run, R.id.note).contains("Battery saver is on") }
        phone.power.setIsPowerSaveMode(false)
        phone.application.sendBroadcast(android.content.Intent(android.os.PowerManager.ACTION_POWER_SAVE_MODE_CHANGED))
        phone.await("no more note") { !activity.text(R.id.run, R.id.note).contains("Battery saver is on") }
        phone.trainer.letStep(3)
        phone.awaitStatus(Status.DONE)
    }

    @Test
    fun `a percentage that cannot be is told by its field`() {
        val activity = phone.open()
        activity.change { it.with(Field.BATTERY, "95") }
        start(activity)
        assertTrue(phone.state.problems.fields.getValue(Field.BATTERY).contains("from 0 to 90"))
        assertFalse("no setting of training", Field.BATTERY.key in phone.state.form.settings())
    }

    @Test
    fun `says why a run's process ended, and leads to the setting that helps`() {
        killed(ApplicationExitInfo.REASON_SIGNALED)
        val activity = phone.open()
        val words = activity.text(R.id.setup, R.id.resume_ending)
        assertTrue(words, words.contains("the maker's battery manager") && words.contains("\"unrestricted\" is safer"))
        activity.findViewById<View>(R.id.resume_settings).performClick()
        assertEquals(Settings.ACTION_APPLICATION_DETAILS_SETTINGS, shadowOf(activity).nextStartedActivity.action)
    }

    @Test
    fun `offers no setting where none helps`() {
        killed(ApplicationExitInfo.REASON_LOW_MEMORY)
        val activity = phone.open()
        assertTrue(activity.text(R.id.setup, R.id.resume_ending).startsWith("Android ended it because memory was short."))
        assertFalse(activity.isShown(R.id.resume_settings))
        assertFalse(activity.isShown(R.id.background_card))
    }

    private fun killed(reason: Int) {
        assumeTrue("Android says why since API 30", Build.VERSION.SDK_INT >= 30)
        phone.app.requests.write(RunRequest("bundles/smollm2-135m", "data/hamlet.txt", "killed", Form().settings()))
        phone.runFolder("killed").apply { resolve("checkpoints/step-40").mkdirs() }.resolve("run.json").writeText("""{"settings": {"steps": 60}}""")
        shadowOf(phone.application.getSystemService(ActivityManager::class.java))
            .addApplicationExitInfo(ApplicationExitInfoBuilder.newBuilder().setReason(reason).setProcessStateSummary("killed".toByteArray()).build())
    }

    @Test
    fun `says when the app is restricted in the background, until it is not`() {
        assumeTrue("Android has it since API 28", Build.VERSION.SDK_INT >= 28)
        val manager = shadowOf(phone.application.getSystemService(ActivityManager::class.java))
        manager.setBackgroundRestricted(true)
        assertTrue(phone.open().isShown(R.id.background_card))
        manager.setBackgroundRestricted(false)
        assertFalse(phone.open().isShown(R.id.background_card))
    }
}
