package org.mesp.app.service

import android.app.Notification
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNotNull
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.mesp.app.TestPhone
import org.mesp.app.actionTitles
import org.mesp.app.body
import org.mesp.app.state.Status
import org.mesp.app.title
import org.robolectric.RobolectricTestRunner
import org.robolectric.Shadows.shadowOf

/** What the notifications say. */
@RunWith(RobolectricTestRunner::class)
class NotificationTest {
    private val phone = TestPhone()

    @Test
    fun `shows progress, with pause and stop`() {
        phone.startRun()
        phone.trainer.letStep()
        shadowOf(phone.application.mainLooper).idleFor(java.time.Duration.ofSeconds(2))
        phone.await("the first step") { phone.run.step == 1 }
        shadowOf(phone.application.mainLooper).idleFor(java.time.Duration.ofSeconds(2))
        val notification = phone.notification()!!
        assertEquals("Training", notification.title())
        assertEquals("step 1 of 3 · error 3.900 · about 4 s left", notification.body())
        assertEquals(3, notification.extras.getInt(Notification.EXTRA_PROGRESS_MAX))
        assertEquals(1, notification.extras.getInt(Notification.EXTRA_PROGRESS))
        assertEquals(listOf("Pause", "Stop"), notification.actionTitles())
        assertEquals(RunNotification.CHANNEL, notification.channelId)
        assertNotNull(phone.notifications.getNotificationChannel(RunNotification.CHANNEL))

        phone.awaitInStep(2)
        phone.tell(Command.PAUSE)
        phone.trainer.letStep()
        phone.await("the pause") { phone.run.waiting }
        shadowOf(phone.application.mainLooper).idleFor(java.time.Duration.ofSeconds(2))
        assertEquals("Paused: you asked for it", phone.notification()!!.title())
        assertEquals(listOf("Continue", "Stop"), phone.notification()!!.actionTitles())

        phone.tell(Command.CONTINUE)
        phone.trainer.letStep()
        phone.awaitStatus(Status.DONE)
        phone.await("the end's notification") { phone.notification(RunNotification.ENDED) != null }
        val end = phone.notification(RunNotification.ENDED)!!
        assertEquals("Done", end.title())
        assertTrue(end.body(), end.body().startsWith("It has taken 3 steps."))
    }

    @Test
    fun `the buttons reach the service`() {
        phone.startRun()
        phone.trainer.letStep()
        phone.await("the first step") { phone.run.step == 1 }
        shadowOf(phone.application.mainLooper).idleFor(java.time.Duration.ofSeconds(2))
        phone.notification()!!.actions.last().actionIntent.send()
        phone.deliver()
        phone.trainer.letStep()
        phone.awaitStatus(Status.INTERRUPTED)
    }

    @Test
    fun `one that was dismissed stays away, and the run goes on`() {
        phone.startRun()
        phone.awaitInStep(1)
        // As the system does it: the notification is gone, then the app is told.
        val dismissed = phone.notification()!!.deleteIntent
        phone.notifications.cancel(RunNotification.RUNNING)
        dismissed.send()
        phone.deliver()
        assertNull("not brought back by being told", phone.notification())
        phone.trainer.letStep()
        phone.await("the first step") { phone.run.step == 1 }
        pass(2)
        assertNull(phone.notification())
        phone.awaitInStep(2)
        phone.tell(Command.PAUSE)
        phone.trainer.letStep()
        phone.await("the pause") { phone.run.waiting }
        phone.tell(Command.CONTINUE)
        pass(2)
        assertNull("nor by a command", phone.notification())
        assertTrue(phone.serviceIsThere)
        phone.trainer.letStep()
        phone.awaitStatus(Status.DONE)
        phone.await("the end's notification") { phone.notification(RunNotification.ENDED) != null }

        phone.await("the service to end") { !phone.serviceIsThere }
        phone.startRun("second")
        assertNotNull("the next run has one again", phone.notification())
        phone.trainer.letStep(3)
        phone.await("the second end") { phone.run.name == "second" && phone.run.status == Status.DONE }
    }

    @Test
    fun `is told of a dismissal when there is no run any more`() {
        phone.tell(Command.DISMISSED)
        assertNull(phone.notification())
        assertNull(phone.state.message)
        assertEquals(emptyList<String>(), phone.logged())
    }

    private fun pass(seconds: Long) = shadowOf(phone.application.mainLooper).idleFor(java.time.Duration.ofSeconds(seconds))
}
