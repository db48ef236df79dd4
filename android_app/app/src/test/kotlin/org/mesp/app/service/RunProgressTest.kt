package org.mesp.app.service

import java.io.File
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.mesp.app.phone.Logcat
import org.mesp.app.state.Evaluating
import org.mesp.app.state.RunState
import org.mesp.app.state.Status
import org.mesp.app.state.Store
import org.mesp.app.state.UiState
import org.mesp.app.state.Words
import org.mesp.core.report.Evaluation
import org.mesp.core.report.Step
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import org.robolectric.shadows.ShadowLog

/** What a run's progress is to the state and to the log. */
@RunWith(RobolectricTestRunner::class)
class RunProgressTest {
    private val store = Store(UiState(run = RunState("first", status = Status.TRAINING, total = 100, evalEvery = 10)))
    private val progress = RunProgress(store, "first", File("absent"))
    private val run get() = store.state.run!!

    private fun step(number: Int) = Step(number, 2.0, 0.1, 1.0, 10, 2.0, 1000)

    private fun logged(event: String) = ShadowLog.getLogsForTag(Logcat.TAG).map { it.msg }.filter { "\"$event\"" in it }

    @Test
    fun `an evaluation is shown as it goes on, and told in few lines`() {
        for (done in 1..64) progress.evaluating(done, 64)
        assertEquals(64, run.evaluating!!.done)
        assertEquals("Testing on the part kept aside: 64 of 64", Words(RuntimeEnvironment.getApplication()).title(run))
        assertTrue(logged("evaluating").size in 1..3)
        assertTrue(logged("evaluating").last().contains("\"done\":64,\"sequences\":64"))
        progress.evaluated(Evaluation(0, 3.0, 60.0))
        assertNull(run.evaluating)
    }

    @Test
    fun `the time that is left has the evaluations to come`() {
        progress.evaluated(Evaluation(0, 3.0, 60.0))
        progress.stepped(step(1))
        assertEquals(99 * 2.0 + 10 * 60, run.secondsLeft!!, 1e-9)
        val at = run.copy(steps = listOf(step(10)))
        assertEquals("those at steps 20 to 90, and the last", 90 * 2.0 + 9 * 60, at.secondsLeft!!, 1e-9)
        assertEquals(90 * 2.0 + 9 * 60 + 32 * 0.5, at.copy(evaluating = Evaluating(32, 64, 0.5)).secondsLeft!!, 1e-9)
        assertEquals(90 * 2.0 + 60, at.copy(evalEvery = 0).secondsLeft!!, 1e-9)
        assertEquals(90 * 2.0, at.copy(evalEvery = null).secondsLeft!!, 1e-9)
        assertEquals(32 * 0.5, at.copy(steps = listOf(step(100)), evaluating = Evaluating(32, 64, 0.5)).secondsLeft!!, 1e-9)
    }

    @Test
    fun `of twenty thousand steps some are kept, with the peak, the best, the first and the last`() {
        val peaks = mapOf(777 to 5000L)
        for (number in 1..20_000) {
            progress.stepped(step(number).copy(peakFootprintBytes = peaks[number] ?: 1000))
            progress.evaluated(Evaluation(number, if (number == 4321) 1.0 else 2.0, 1.0))
            assertTrue(run.steps.size <= 2000 && run.evaluations.size <= 2000)
        }
        assertEquals(5000L, run.peakBytes)
        assertEquals(1.0, run.heldOutAfter!!, 0.0)
        assertEquals(listOf(1, 20_000), listOf(run.steps.first().step, run.step))
        assertEquals((19_801..20_000).toList(), run.steps.takeLast(200).map { it.step })
        assertEquals(run.steps.map { it.step }.sorted(), run.steps.map { it.step })
    }
}
