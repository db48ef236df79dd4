package org.mesp.app.screens

import android.Manifest
import android.os.Build
import android.view.View
import android.widget.EditText
import android.widget.LinearLayout
import android.widget.RadioButton
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.mesp.app.MainActivity
import org.mesp.app.R
import org.mesp.app.TestPhone
import org.mesp.app.body
import org.mesp.app.isShown
import org.mesp.app.service.RunNotification
import org.mesp.app.state.Field
import org.mesp.app.state.Form
import org.mesp.app.state.Status
import org.mesp.app.state.text
import org.mesp.app.storage.RunRequest
import org.mesp.app.text
import org.mesp.core.report.Evaluation
import org.robolectric.RobolectricTestRunner
import org.robolectric.Shadows.shadowOf

/** The real Activity over the real service. */
@RunWith(RobolectricTestRunner::class)
class ScreenTest {
    private val phone = TestPhone()

    private fun start(activity: MainActivity) {
        activity.findViewById<View>(R.id.start).performClick()
        phone.deliver()
    }

    @Test
    fun `shows what is there before a run`() {
        val activity = phone.open()
        assertTrue(activity.isShown(R.id.setup))
        assertFalse(activity.isShown(R.id.run))
        val row = activity.findViewById<LinearLayout>(R.id.bundles).getChildAt(0) as RadioButton
        assertTrue(row.text.startsWith("smollm2-135m\nSmolLM2-135M-Instruct.Q4_1\u00A0· int4, texts of up to 256 tokens, rank\u00A08"))
        assertTrue("the only one is chosen", row.isChecked)
    }

    @Test
    fun `starts, pauses and ends a run`() {
        val activity = phone.open()
        activity.change { it.with(Field.STEPS, "2") }
        start(activity)
        phone.await("the run") { activity.isShown(R.id.run) }
        phone.trainer.letStep()
        phone.await("the first step") { activity.text(R.id.run, R.id.step) == "1" }
        assertEquals("Training", activity.text(R.id.run, R.id.status))
        assertEquals("SmolLM2-135M-Instruct.Q4_1, from hamlet.txt", activity.text(R.id.run, R.id.subject))
        assertEquals("of 2 steps", activity.text(R.id.run, R.id.of_steps))
        assertEquals("3.900", activity.text(R.id.run, R.id.loss))
        phone.awaitInStep(2)
        activity.findViewById<View>(R.id.pause).performClick()
        phone.deliver()
        assertTrue(activity.text(R.id.run, R.id.status).startsWith("Pausing after this piece"))
        phone.trainer.letStep()
        phone.await("the end") { activity.text(R.id.run, R.id.status) == "Done" }
        assertTrue(activity.text(R.id.run, R.id.end).startsWith("It has taken 2 steps."))
        assertTrue(activity.text(R.id.run, R.id.note).startsWith("Error on the training text: 3.900 in the first step, 3.800 in the last."))
        assertEquals("New run", activity.text(R.id.run, R.id.pause))
        activity.findViewById<View>(R.id.pause).performClick()
        phone.await("the first screen") { activity.isShown(R.id.setup) }
    }

    @Test
    fun `shows why it waits`() {
        val activity = phone.open()
        start(activity)
        phone.awaitInStep(1)
        phone.warm(android.os.PowerManager.THERMAL_STATUS_SEVERE)
        phone.trainer.letStep()
        phone.await("the pause") { activity.text(R.id.run, R.id.status) == "Paused: the phone is hot" }
        activity.stop()
        phone.deliver()
        phone.await("the end") { activity.text(R.id.run, R.id.status) == "Stopped" }
        assertEquals("Stopped at step 1 of 60, with a checkpoint. It can be resumed.", activity.text(R.id.run, R.id.end))
        assertEquals("Resume", activity.text(R.id.run, R.id.stop))
    }

    @Test
    fun `is the same after the phone is turned`() {
        val activity = phone.open()
        activity.change { it.with(Field.RATE, "0.001") }
        start(activity)
        phone.trainer.letStep(2)
        phone.await("two steps") { phone.run.step == 2 }
        val turned = phone.recreate()
        assertEquals("2", turned.text(R.id.run, R.id.step))
        phone.trainer.letStep()
        phone.await("the third step") { turned.text(R.id.run, R.id.step) == "3" }
        turned.stop()
        phone.deliver()
        phone.trainer.letStep()
        phone.awaitStatus(Status.INTERRUPTED)
        assertEquals("0.001", phone.state.form.values[Field.RATE])
    }

    @Test
    fun `says what is wrong with the settings, by the field`() {
        val activity = phone.open()
        activity.change { it.with(Field.STEPS, "0") }
        start(activity)
        phone.idle()
        assertEquals("0 must be at least 1.", phone.state.problems.fields[Field.STEPS])
        assertNull(phone.state.run)
        activity.change { it.with(Field.STEPS, "3").with(Field.CLIP, "much") }
        start(activity)
        assertEquals("This is not a number. Write it like 0.1 or 1e-4.", phone.state.problems.fields[Field.CLIP])
        activity.change { it.with(Field.CLIP, "").with(Field.SPLIT, "").with(Field.EVERY, "5") }
        start(activity)
        assertTrue(phone.state.problems.fields.getValue(Field.EVERY).contains("needs rows to evaluate on"))
        phone.recreate()
        assertEquals("not forgotten when the phone is turned", 1, phone.state.problems.fields.size)
    }

    @Test
    fun `names the columns of the data that are not read, where the data is chosen`() {
        phone.app.folders.ownData.resolve("rows.jsonl").writeText("{\"text\": \"a\", \"id\": 1, \"source\": \"b\"}\n")
        phone.app.folders.ownData.resolve("wrong.jsonl").writeText("{\"question\": \"a\"}\n")
        val activity = phone.open()
        fun choose(name: String): String {
            activity.change { it.copy(data = name) }
            phone.idle()
            return activity.text(R.id.setup, R.id.data_note)
        }
        assertEquals("Columns that are not read: \"id\", \"source\".", choose("rows.jsonl"))
        assertTrue(choose("wrong.jsonl").startsWith("wrong.jsonl, line 1: A row has \"text\""))
        choose("hamlet.txt")
        assertFalse(activity.isShown(R.id.data_note))
    }

    @Test
    fun `asks for a bundle and data`() {
        phone.app.folders.root.deleteRecursively()
        val activity = phone.open()
        start(activity)
        phone.idle()
        assertEquals("Choose a model first.", activity.text(R.id.setup, R.id.form_problem))
    }

    @Test
    fun `offers a run whose process was killed`() {
        phone.app.requests.write(RunRequest("bundles/smollm2-135m", "data/hamlet.txt", "killed", Form().settings()))
        val folder = phone.runFolder("killed").apply { resolve("checkpoints/step-40").mkdirs() }
        folder.resolve("run.json").writeText("""{"settings": {"steps": 60}, "baseline_footprint_bytes": 1000}""")
        folder.resolve("steps.jsonl").writeText((1..41).joinToString("") { line(it) } + "{\"step\": 4")
        val activity = phone.open()
        assertEquals(
            "Training killed did not finish. Its last checkpoint is of step 40 of 60.",
            activity.text(R.id.setup, R.id.resume_text),
        )
        activity.findViewById<View>(R.id.resume).performClick()
        phone.deliver()
        phone.trainer.letStep(20)
        phone.awaitStatus(Status.DONE)
        assertTrue(phone.trainer.started!!.resume)
        assertEquals("the chart goes on where the checkpoint was", (1..60).toList(), phone.run.steps.map { it.step })
        phone.await("no more offer") { phone.state.resumable == null }
    }

    private fun line(step: Int) =
        """{"step": $step, "loss": 4.0, "lr": 0.1, "grad_norm": 1.0, "tokens": 256, "seconds": 2.0, "peak_footprint_bytes": 2000}""" + "\n"

    @Test
    fun `does not offer a run that the person left`() {
        phone.app.requests.write(RunRequest("bundles/smollm2-135m", "data/hamlet.txt", "killed"))
        phone.runFolder("killed").apply { mkdirs() }.resolve("run.json").writeText("{}")
        val activity = phone.open()
        assertTrue(activity.isShown(R.id.resume_card))
        activity.findViewById<View>(R.id.forget).performClick()
        phone.idle()
        assertFalse(activity.isShown(R.id.resume_card))
        assertFalse(phone.open().isShown(R.id.resume_card))
    }

    @Test
    fun `trains without the permission for notifications, and says so`() {
        shadowOf(phone.notifications).setNotificationsEnabled(false)
        val activity = phone.open()
        start(activity)
        if (Build.VERSION.SDK_INT >= 33) { // before, there is nothing to ask for
            assertEquals(Manifest.permission.POST_NOTIFICATIONS, shadowOf(activity).lastRequestedPermission.requestedPermissions.single())
        }
        phone.trainer.letStep()
        phone.await("the first step") { activity.text(R.id.run, R.id.step) == "1" }
        assertTrue(activity.text(R.id.run, R.id.note).contains("Notifications are off"))
        activity.stop()
        phone.deliver()
        phone.trainer.letStep()
        phone.awaitStatus(Status.INTERRUPTED)
    }

    @Test
    fun `charts tell TalkBack their numbers`() {
        val activity = phone.open()
        start(activity)
        phone.await("the run") { activity.isShown(R.id.run) }
        val chart = activity.findViewById<View>(R.id.loss_chart)
        val memory = activity.findViewById<View>(R.id.memory_chart)
        assertEquals("Chart of the error. No step is done yet.", chart.contentDescription)
        phone.trainer.letStep()
        phone.await("the first step") { activity.text(R.id.run, R.id.step) == "1" }
        assertEquals("Chart of the error. training text, mean of 1: 3.900", chart.contentDescription)
        assertEquals(
            "Chart of the memory of the last step by phase. forward 50.0 MB, backward 58.8 MB. Peak of the run: 58.8 MB.",
            memory.contentDescription,
        )
        activity.stop()
        phone.deliver()
        phone.trainer.letStep()
        phone.awaitStatus(Status.INTERRUPTED)
    }

    @Test
    fun `says which library is inside, and shows licences until back`() {
        val activity = phone.open()
        assertTrue(activity.text(R.id.setup, R.id.about).contains("react-native-executorch"))
        activity.findViewById<View>(R.id.licences).performClick()
        phone.idle()
        assertTrue(activity.isShown(R.id.licences_screen))
        val turned = phone.recreate()
        assertTrue(turned.isShown(R.id.licences_screen))
        back(turned)
        assertTrue(turned.isShown(R.id.setup))
    }

    private fun back(activity: MainActivity) {
        @Suppress("DEPRECATION") activity.onBackPressed()
        phone.idle()
    }

    @Test
    fun `says what was learnt on what was kept aside`() {
        phone.trainer.evaluations = listOf(Evaluation(0, 3.655, 9.0), Evaluation(3, 3.348, 9.0))
        val activity = phone.open()
        phone.startRun()
        phone.trainer.letStep(3)
        phone.await("the end") { activity.text(R.id.run, R.id.status) == "Done" }
        assertEquals(
            "It has learnt. On the part kept aside, which it never trained on, it now gives the right next word a chance that is 36% higher.",
            activity.text(R.id.run, R.id.end),
        )
        assertTrue(activity.text(R.id.run, R.id.note).startsWith("Error on the part kept aside: 3.655 before, 3.348 after. Lower is better."))
        assertTrue(activity.isShown(R.id.result) && activity.isShown(R.id.next))
        assertFalse("the words say what the figures did", activity.isShown(R.id.numbers))
    }

    @Test
    fun `does not call learnt what became no better`() {
        phone.trainer.evaluations = listOf(Evaluation(0, 3.3, 9.0), Evaluation(3, 3.5, 9.0))
        val activity = phone.open()
        phone.startRun()
        phone.trainer.letStep(3)
        phone.await("the end") { activity.text(R.id.run, R.id.status) == "Done" }
        assertTrue(activity.text(R.id.run, R.id.end).startsWith("It has learnt nothing that helps elsewhere"))
    }

    @Test
    fun `a failure begins with what to do`() {
        phone.trainer.failure = java.io.IOException("write failed: ENOSPC (No space left on device)")
        val activity = phone.open()
        phone.startRun()
        phone.await("the end") { activity.text(R.id.run, R.id.status) == "Failed" }
        assertEquals("Free some space, then resume the run.", activity.text(R.id.run, R.id.todo))
        assertEquals("The storage is full; a checkpoint from before is complete.", activity.text(R.id.run, R.id.end))
        assertTrue(phone.notification(RunNotification.ENDED)!!.body().startsWith("Free some space"))
    }

    @Test
    fun `keeps memory behind details`() {
        val activity = phone.open()
        phone.startRun()
        phone.trainer.letStep(3)
        phone.awaitStatus(Status.DONE)
        phone.idle()
        assertFalse(activity.isShown(R.id.detailed))
        activity.findViewById<View>(R.id.details).performClick()
        phone.idle()
        assertTrue(activity.isShown(R.id.detailed))
        assertEquals("Fewer details", activity.text(R.id.run, R.id.details))
        assertTrue("also when the phone is turned", phone.recreate().isShown(R.id.detailed))
    }

    @Test
    fun `shows the last report at the start, and leads back`() {
        phone.startRun()
        phone.trainer.letStep(3)
        phone.awaitStatus(Status.DONE)
        phone.app.store.update { it.copy(run = null) }
        val activity = phone.open()
        assertEquals("Last run\nhamlet.txt · 3 steps, not tested", activity.text(R.id.setup, R.id.last_text))
        activity.findViewById<View>(R.id.last_open).performClick()
        phone.idle()
        assertEquals("Done", activity.text(R.id.run, R.id.status))
        back(activity)
        assertTrue(activity.isShown(R.id.setup))
    }

    @Test
    fun `fields take what a keyboard gives`() {
        val activity = phone.open()
        activity.change { it.copy(showRare = true) }
        phone.idle()
        val list = activity.findViewById<LinearLayout>(R.id.rare_fields)
        val rate = (list.getChildAt(0) as LinearLayout).let { row -> (0..<row.childCount).map(row::getChildAt) }.filterIsInstance<EditText>().single()
        for (typed in listOf("1e-4", "0,0001", "٠٫٠٠٠١")) {
            rate.setText(typed)
            phone.idle()
            assertEquals("nothing is filtered out", typed, phone.state.form.values[Field.RATE])
            assertEquals("1.0E-4", phone.state.form.settings().getValue("lr").toString())
        }
    }
}
