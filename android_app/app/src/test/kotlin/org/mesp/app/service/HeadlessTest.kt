package org.mesp.app.service

import android.content.ComponentName
import android.content.Intent
import android.content.pm.PackageManager
import kotlinx.serialization.json.Json
import kotlinx.serialization.json.jsonObject
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Rule
import org.junit.Test
import org.junit.runner.RunWith
import org.mesp.app.KeepsEvents
import org.mesp.app.TestPhone
import org.mesp.app.TrainService
import org.mesp.app.intent
import org.mesp.app.state.Status
import org.mesp.app.state.text
import org.mesp.app.text
import org.robolectric.RobolectricTestRunner

/** The service as a harness uses it over adb. */
@RunWith(RobolectricTestRunner::class)
class HeadlessTest {
    @get:Rule val events = KeepsEvents()

    private val phone = TestPhone()

    @Test
    fun `only the shell and the app itself may start it`() {
        val name = ComponentName(phone.application, TrainService::class.java)
        val info = phone.application.packageManager.getServiceInfo(name, PackageManager.GET_META_DATA)
        assertTrue(info.exported)
        assertEquals("android.permission.DUMP", info.permission)
    }

    @Test
    fun `refuses a start without extras`() {
        phone.send(Command.TRAIN.intent(phone.application))
        assertEquals("The start lacks the extra \"output\".", phone.state.message)
        assertNull(phone.state.run)
        assertTrue(phone.logged().any { it.contains("\"event\":\"refused\"") })
    }

    @Test
    fun `leaves a report of a start that lacks its bundle`() {
        phone.send(Command.TRAIN.intent(phone.application).putExtra("output", "first"))
        assertEquals("The start lacks the extra \"bundle\".", phone.report("first").text("reason"))
    }

    @Test
    fun `refuses settings that cannot be read, and names that lead elsewhere`() {
        phone.startRun { putExtra("settings", "{steps") }
        assertTrue(phone.state.message!!.startsWith("The settings cannot be read"))
        phone.startRun("../first")
        assertTrue(phone.state.message!!.contains("is no name for a run"))
        phone.startRun("second") { putExtra("settings", """{"step": 3}""") }
        phone.awaitStatus(Status.FAILED)
        assertTrue(phone.run.failure!!.contains("step"))
        phone.startRun("third") { putExtra("settings", """{"steps": 0}""") }
        phone.await("the second failure") { phone.run.name == "third" && phone.run.status == Status.FAILED }
        assertEquals("steps 0 must be at least 1.", phone.run.failure)
    }

    @Test
    fun `refuses an action that it does not know`() {
        phone.send(Intent("org.mesp.app.action.DANCE", null, phone.application, TrainService::class.java))
        assertTrue(phone.state.message!!.contains("DANCE"))
    }

    @Test
    fun `writes its progress to logcat, an object a line`() {
        phone.startRun()
        phone.awaitInStep(1)
        phone.tell(Command.CHECKPOINT)
        phone.trainer.letStep(3)
        phone.awaitStatus(Status.DONE)
        val events = phone.logged().map { Json.parseToJsonElement(it).jsonObject }
        val names = events.map { it.text("event") }
        assertEquals(listOf("start", "begin", "step", "checkpoint", "step", "step", "checkpoint", "end"), names)
        assertTrue(events.all { it.text("run") == "first" })
        val step = events[2]
        assertEquals(setOf("event", "run", "step", "loss", "lr", "grad_norm", "tokens", "seconds", "peak_footprint_bytes", "major_faults"), step.keys)
        assertEquals("3.9", step.getValue("loss").toString())
        assertEquals("done", events.last().text("status"))
    }

    @Test
    fun `resumes by name alone`() {
        phone.startRun()
        phone.trainer.letStep()
        phone.awaitInStep(2)
        phone.tell(Command.STOP)
        phone.trainer.letStep()
        phone.awaitStatus(Status.INTERRUPTED)
        phone.send(Command.TRAIN.intent(phone.application).putExtra("output", "first").putExtra("resume", true))
        phone.trainer.letStep()
        phone.awaitStatus(Status.DONE)
        assertTrue(phone.trainer.started!!.resume)
        assertEquals(3, phone.trainer.started!!.settings.steps)
    }
}
