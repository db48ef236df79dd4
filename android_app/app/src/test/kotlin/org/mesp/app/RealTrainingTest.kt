package org.mesp.app

import android.os.PowerManager
import java.io.File
import kotlinx.serialization.json.Json
import kotlinx.serialization.json.JsonObject
import kotlinx.serialization.json.JsonPrimitive
import kotlinx.serialization.json.jsonObject
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Before
import org.junit.Rule
import org.junit.Test
import org.junit.runner.RunWith
import org.mesp.app.screens.PhaseColours
import org.mesp.app.state.Field
import org.mesp.app.state.Status
import org.mesp.app.state.text
import org.mesp.app.storage.RunFolder
import org.mesp.app.storage.RunRequest
import org.robolectric.RobolectricTestRunner

/**
 * The whole app with nothing replaced: Activity, service, core, and ExecuTorch's own library, on a tiny Llama, compared with what the
 * Python runtime did with the same bundle, data and settings (tools/cases.py, in the folder that mesp.cases names).
 */
@RunWith(RobolectricTestRunner::class)
class RealTrainingTest {
    @get:Rule val events = KeepsEvents()

    private val phone = TestPhone(withFiles = false, reallyTrains = true)
    private val cases = File(System.getProperty("mesp.cases") ?: "none")
    private val case = File(cases, "runs/llama-sgd")
    private val python = RunFolder(File(case, "host"))

    private fun settings(steps: Int): JsonObject {
        val settings = Json.parseToJsonElement(File(case, "settings.json").readText()).jsonObject
        return JsonObject(settings - "bundle" - "data" + ("steps" to JsonPrimitive(steps)))
    }

    private fun request(name: String, steps: Int) = RunRequest("bundles/tiny", "data/data.jsonl", name, settings(steps))

    @Before
    fun copyFiles() {
        assertTrue("There are no cases to compare with at $cases. Run the tests by: make test-android", case.isDirectory)
        File(cases, "bundles/llama").copyRecursively(File(phone.app.folders.bundles, "tiny"))
        File(case, "data.jsonl").copyTo(File(phone.app.folders.data, "data.jsonl"))
    }

    private fun awaitEnd() {
        phone.await("the end", seconds = 300) { phone.run.status.ended }
        assertEquals(phone.run.failure, Status.DONE, phone.run.status)
    }

    @Test
    fun `learns what Python learns`() {
        val expected = python.steps()
        phone.send(request("real", expected.size).intent(phone.application))
        awaitEnd()
        assertEquals(expected.size, phone.run.steps.size)
        for ((mine, theirs) in phone.run.steps.zip(expected)) assertEquals(theirs.loss, mine.loss, 1e-5)
        assertTrue("the memory chart has its phases", phone.run.trace.map { PhaseColours.kind(it.phase) }.containsAll(listOf("forward", "backward")))
        val environment = phone.report().getValue("environment") as JsonObject
        assertEquals(phone.state.library!!.json, environment["library"])
    }

    @Test
    fun `pauses when hot, and resumes what a killed process left`() {
        val steps = 200
        val activity = phone.open()
        phone.send(request("whole", steps).intent(phone.application))
        phone.await("the first step", seconds = 100) { phone.run.step >= 1 || phone.run.status.ended }
        phone.power.setCurrentThermalStatus(PowerManager.THERMAL_STATUS_SEVERE)
        phone.await("the pause", seconds = 60) { phone.run.waiting }
        assertTrue("it waits before its end", phone.run.step < steps)
        assertEquals("Paused: the phone is hot", activity.text(R.id.run, R.id.status))

        // What the storage would hold if Android killed the process now.
        phone.runFolder("whole").copyRecursively(phone.runFolder("killed"))
        phone.power.setCurrentThermalStatus(PowerManager.THERMAL_STATUS_NONE)
        awaitEnd()
        phone.await("the service to end") { !phone.serviceIsThere }

        phone.app.requests.write(request("killed", steps))
        activity.newRun()
        phone.app.shelf.refresh()
        phone.idle()
        assertEquals("killed", phone.state.resumable!!.name)
        activity.resume("killed")
        phone.deliver()
        awaitEnd()
        assertEquals((1..steps).toList(), phone.run.steps.map { it.step })
        assertArrayEquals(adapter("whole"), adapter("killed"))
    }

    @Test
    fun `finds the fastest number of threads, and keeps it in the form`() {
        phone.state.let { state -> assertEquals(null, state.form.values[Field.THREADS]) }
        val found = request("found", 2).let { it.copy(settings = JsonObject(it.settings + ("find_threads" to JsonPrimitive(true)))) }
        phone.send(found.intent(phone.application))
        awaitEnd()
        val threads = phone.report().getValue("threads").toString()
        assertEquals(threads, phone.state.form.values[Field.THREADS])
        val event = phone.logged().map { Json.parseToJsonElement(it).jsonObject }.single { it.text("event") == "threads" }
        assertEquals(phone.report()["threads_tried"], event["tried"])
        assertEquals(threads, event["threads"].toString())
    }

    private fun adapter(run: String) = phone.runFolder(run).resolve("adapter/adapter_model.safetensors").readBytes()

    @Test
    fun `says that the bundle has changed`() {
        val weights = File(phone.app.folders.bundles, "tiny/weights.safetensors")
        val bytes = weights.readBytes()
        bytes[bytes.size / 2] = (bytes[bytes.size / 2] + 1).toByte()
        weights.writeBytes(bytes)
        phone.send(request("changed", 3).intent(phone.application))
        phone.await("the end", seconds = 60) { phone.run.status.ended }
        assertEquals(Status.FAILED, phone.run.status)
        assertTrue(phone.run.failure, phone.run.failure!!.contains("weights.safetensors"))
        assertEquals("failed", phone.report().text("status"))
    }
}
