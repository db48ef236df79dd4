package org.mesp.app.service

import android.app.Service
import android.content.ComponentCallbacks2
import android.os.PowerManager
import java.io.IOException
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Rule
import org.junit.Test
import org.junit.runner.RunWith
import org.mesp.app.KeepsEvents
import org.mesp.app.TestPhone
import org.mesp.app.intent
import org.mesp.app.phone.HeatRule
import org.mesp.app.phone.Warmth
import org.mesp.app.state.Pause
import org.mesp.app.state.Status
import org.mesp.app.state.text
import org.mesp.app.storage.RunRequest
import org.mesp.app.text
import org.mesp.core.UsageException
import org.robolectric.RobolectricTestRunner
import org.robolectric.annotation.Config
import org.robolectric.shadows.ShadowPowerManager

/** The service: a run from its start to its end, and what holds it up. */
@RunWith(RobolectricTestRunner::class)
class ServiceTest {
    @get:Rule val events = KeepsEvents()

    private val phone = TestPhone()
    private val trainer = phone.trainer

    @Test
    fun `trains to the end`() {
        phone.startRun()
        trainer.letStep(3)
        phone.awaitStatus(Status.DONE)
        assertEquals(listOf(1, 2, 3), phone.run.steps.map { it.step })
        assertEquals(58_800_000L, phone.run.peakBytes)
        assertEquals(128.0, phone.run.tokensPerSecond!!, 1e-9)
        phone.await("the service to end") { !phone.serviceIsThere }
        assertFalse(ShadowPowerManager.getLatestWakeLock().isHeld)
        assertNull("nothing is left to resume", phone.state.resumable)
    }

    @Test
    fun `gives the trainer what it was started with`() {
        phone.startRun { putExtra("settings", """{"steps": 2, "lr": 0.5, "optimizer": "sgd"}""") }
        trainer.letStep(2)
        phone.awaitStatus(Status.DONE)
        val started = trainer.started!!
        assertEquals(phone.app.folders.bundles.resolve("smollm2-135m").canonicalFile, started.bundle)
        assertEquals(phone.runFolder("first"), started.output)
        assertEquals(0.5, started.settings.lr!!, 0.0)
        assertEquals(phone.app.folders.ownData.resolve("hamlet.txt").canonicalPath, started.settings.data)
        val keys = listOf("manufacturer", "model", "android", "sdk", "abi", "memory_bytes", "cores", "app", "library")
        assertTrue(started.environment.keys.containsAll(keys))
    }

    @Test
    fun `keeps the phone awake while it trains, not while it waits for the person`() {
        phone.startRun()
        assertTrue(ShadowPowerManager.getLatestWakeLock().isHeld)
        phone.awaitInStep(1)
        phone.tell(Command.PAUSE)
        trainer.letStep()
        phone.await("the pause") { phone.run.waiting && !ShadowPowerManager.getLatestWakeLock().isHeld }
        phone.tell(Command.CONTINUE)
        phone.await("the end of the pause") { !phone.run.waiting && ShadowPowerManager.getLatestWakeLock().isHeld }
        trainer.letStep(2)
        phone.awaitStatus(Status.DONE)
    }

    @Test
    fun `pauses when hot, with a checkpoint, until it has cooled down`() {
        phone.startRun()
        phone.awaitInStep(1)
        phone.warm(PowerManager.THERMAL_STATUS_SEVERE)
        trainer.letStep()
        phone.await("the pause") { phone.run.waiting }
        assertEquals(setOf(Pause.HOT), phone.run.pauses)
        assertEquals(1, phone.run.checkpoint)
        phone.warm(PowerManager.THERMAL_STATUS_MODERATE)
        phone.idle()
        assertTrue("still warm", phone.run.waiting)
        phone.warm(PowerManager.THERMAL_STATUS_LIGHT)
        phone.await("the end of the pause") { !phone.run.waiting && phone.run.pauses.isEmpty() }
        trainer.letStep(2)
        phone.awaitStatus(Status.DONE)
    }

    @Test
    fun `judges heat by the battery, also where the thermal status says none`() {
        for (status in listOf(null, PowerManager.THERMAL_STATUS_NONE)) {
            assertFalse(HeatRule.isHot(Warmth(44.0, status), before = false))
            assertTrue(HeatRule.isHot(Warmth(45.0, status), before = false))
            assertTrue(HeatRule.isHot(Warmth(41.0, status), before = true))
            assertFalse(HeatRule.isHot(Warmth(40.0, status), before = true))
        }
    }

    @Test
    fun `judges heat by the thermal status, also where the battery is cool or unknown`() {
        for (celsius in listOf(null, 30.0)) {
            assertFalse(HeatRule.isHot(Warmth(celsius, PowerManager.THERMAL_STATUS_MODERATE), before = false))
            assertTrue(HeatRule.isHot(Warmth(celsius, PowerManager.THERMAL_STATUS_SEVERE), before = false))
            assertTrue(HeatRule.isHot(Warmth(celsius, PowerManager.THERMAL_STATUS_MODERATE), before = true))
            assertFalse(HeatRule.isHot(Warmth(celsius, PowerManager.THERMAL_STATUS_LIGHT), before = true))
        }
        assertTrue("nothing new is known", HeatRule.isHot(Warmth(), before = true))
    }

    @Test
    fun `waits for the charger if asked`() {
        phone.plug(false)
        phone.startRun { putExtra("only_while_charging", true) }
        phone.await("the pause") { phone.run.waiting }
        assertEquals(setOf(Pause.NOT_CHARGING), phone.run.pauses)
        phone.plug(true)
        phone.await("the end of the pause") { phone.run.pauses.isEmpty() }
        trainer.letStep(3)
        phone.awaitStatus(Status.DONE)
    }

    @Test
    fun `pauses on a low battery until there is a charger`() {
        phone.plug(false, percent = 21)
        phone.startRun()
        phone.awaitInStep(1)
        phone.plug(false, percent = 19)
        phone.idle()
        trainer.letStep()
        phone.await("the pause") { phone.run.waiting }
        assertEquals(setOf(Pause.LOW_BATTERY), phone.run.pauses)
        assertEquals(1, phone.run.checkpoint)
        assertFalse("a charger wakes the phone", ShadowPowerManager.getLatestWakeLock().isHeld)
        assertTrue(phone.logged().any { it.contains("\"reasons\":[\"low_battery\"]") })
        phone.plug(true, percent = 19)
        phone.await("the end of the pause") { phone.run.pauses.isEmpty() }
        trainer.letStep(2)
        phone.awaitStatus(Status.DONE)
    }

    @Test
    fun `pauses where the person has put the mark`() {
        phone.plug(false, percent = 15)
        phone.startRun { putExtra("pause_below_percent", 10) }
        trainer.letStep(3)
        phone.awaitStatus(Status.DONE)
        phone.startRun("second") { putExtra("pause_below_percent", 95) }
        assertTrue(phone.state.message!!.contains("must be from 0 to 90"))
    }

    @Test
    fun `measures what a step takes of the battery, and remembers the pace`() {
        phone.plug(false, percent = 75)
        phone.charge(3_000_000)
        phone.startRun { putExtra("settings", """{"steps": 3, "grad_accumulation": 2}""") }
        trainer.letStep()
        phone.awaitInStep(2)
        phone.charge(2_960_000)
        phone.plug(false, percent = 74)
        phone.idle()
        trainer.letStep()
        phone.await("the share of a step") { phone.run.percentAStep != null }
        assertEquals(1.0, phone.run.percentAStep!!, 0.01)
        assertEquals("one step is left", 1.0, phone.run.percentLeft!!, 0.01)
        phone.charge(2_920_000)
        phone.plug(false, percent = 73)
        phone.idle()
        trainer.letStep()
        phone.awaitStatus(Status.DONE)
        phone.await("the service to end") { !phone.serviceIsThere }
        val pace = phone.state.paces.getValue("smollm2-135m")
        assertEquals(1.0, pace.sequenceSeconds, 1e-9)
        assertEquals(0.5, pace.sequencePercent!!, 0.01)
    }

    @Test
    fun `stops with a checkpoint, also out of a pause, and can be resumed`() {
        phone.startRun()
        trainer.letStep()
        phone.awaitInStep(2)
        phone.tell(Command.PAUSE)
        trainer.letStep()
        phone.await("the pause") { phone.run.waiting }
        phone.tell(Command.STOP)
        phone.awaitStatus(Status.INTERRUPTED)
        phone.await("the offer") { phone.state.resumable?.name == "first" }
        assertEquals(2, phone.state.resumable!!.step)
    }

    @Test
    fun `writes a checkpoint when memory is short, and says so`() {
        phone.startRun()
        trainer.letStep()
        phone.awaitInStep(2)
        phone.service.onTrimMemory(ComponentCallbacks2.TRIM_MEMORY_UI_HIDDEN)
        assertNull("that says nothing of memory", phone.run.lowMemory)
        phone.service.onTrimMemory(ComponentCallbacks2.TRIM_MEMORY_RUNNING_CRITICAL)
        assertEquals(1, phone.run.lowMemory)
        trainer.letStep()
        phone.await("the checkpoint") { phone.run.checkpoint == 2 }
        trainer.letStep()
        phone.awaitStatus(Status.DONE)
    }

    @Test
    fun `refuses a second run`() {
        phone.startRun()
        phone.startRun("second")
        assertTrue(phone.state.message!!.contains("first is under way"))
        assertEquals("first", phone.run.name)
        assertEquals("failed", phone.report("second").text("status"))
        trainer.letStep(3)
        phone.awaitStatus(Status.DONE)
        assertEquals("done", phone.report("first").text("status"))
    }

    @Test
    fun `keeps a run that has the name already`() {
        phone.startRun()
        trainer.letStep(3)
        phone.awaitStatus(Status.DONE)
        phone.startRun()
        phone.awaitStatus(Status.FAILED)
        assertTrue(phone.run.failure!!.contains("run named first already"))
        assertEquals("done", phone.report("first").text("status"))
    }

    @Test
    fun `a failed start does not stand in the way of the next`() {
        trainer.failure = UsageException("No row has a target.")
        phone.startRun()
        phone.awaitStatus(Status.FAILED)
        trainer.failure = null
        phone.startRun()
        trainer.letStep(3)
        phone.awaitStatus(Status.DONE)
    }

    @Test
    fun `tells what failed`() {
        val reasons =
            mapOf(
                UsageException("No row of the data has a target.") to "No row of the data has a target.",
                UnsatisfiedLinkError("no executorch in java.library.path") to "does not load on this phone",
                IOException("write failed: ENOSPC (No space left on device)") to "storage is full",
                java.io.FileNotFoundException("data/hamlet.txt") to "A file is gone",
                OutOfMemoryError("1 GB") to "not enough memory",
                IllegalStateException("what?") to "IllegalStateException: what?",
            )
        for ((i, entry) in reasons.entries.withIndex()) {
            trainer.failure = entry.key
            phone.startRun("run-$i")
            phone.await("failure $i") { phone.state.run?.let { it.name == "run-$i" && it.status == Status.FAILED } == true }
            assertTrue(phone.run.failure, phone.run.failure!!.contains(entry.value))
            assertEquals("failed", phone.report().text("status"))
            assertEquals(phone.run.failure, phone.report().text("reason"))
            assertTrue(phone.logged().any { it.contains("\"failed\"") && it.contains("run-$i") })
        }
    }

    @Test
    fun `tells of a bundle or data that is not there`() {
        phone.startRun { putExtra("bundle", "bundles/none") }
        phone.awaitStatus(Status.FAILED)
        assertEquals("There is no bundle at bundles/none.", phone.run.failure)
        assertEquals("failed", phone.report().text("status"))
        phone.startRun("out") { putExtra("data", "../../databases/x") }
        phone.await("the second failure") { phone.run.name == "out" && phone.run.status == Status.FAILED }
        assertTrue(phone.run.failure!!.contains("leads out of the app's files"))
    }

    @Test
    fun `is not started again by Android`() {
        val intent = RunRequest("bundles/smollm2-135m", "data/hamlet.txt", "first").intent(phone.application)
        phone.tell(Command.PAUSE) // none is under way: nothing happens
        phone.startRun()
        assertEquals(Service.START_NOT_STICKY, phone.service.onStartCommand(intent.putExtra("output", "other"), 0, 9))
        trainer.letStep(3)
        phone.awaitStatus(Status.DONE)
    }

    @Test
    @Config(shadows = [RefusingService::class])
    fun `tells when Android refuses the foreground`() {
        phone.startRun()
        assertNull(phone.state.run)
        assertTrue(phone.state.message!!.contains("refused to start training from the background"))
        assertEquals("failed", phone.report("first").text("status"))
    }
}
