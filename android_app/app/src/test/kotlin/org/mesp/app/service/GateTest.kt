package org.mesp.app.service

import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertTrue
import org.junit.Test
import org.mesp.app.state.Pause

/** When the training thread waits. */
class GateTest {
    @Test
    fun `a gate counts its reasons`() {
        val heard = mutableListOf<Pair<Set<Pause>, Boolean>>()
        val gate = Gate { pauses, waiting -> heard += pauses to waiting }
        gate.set(Pause.HOT, true)
        gate.set(Pause.HOT, true)
        gate.set(Pause.USER, true)
        gate.set(Pause.HOT, false)
        gate.set(Pause.USER, false)
        assertEquals(listOf(setOf(Pause.HOT), setOf(Pause.USER, Pause.HOT), setOf(Pause.USER), emptySet()), heard.map { it.first })
        assertTrue("a pause asks for a checkpoint", gate.checkpoint())
        assertFalse("once", gate.checkpoint())
        assertFalse(gate.stop())
        gate.set(Pause.USER, true)
        gate.end()
        assertTrue("the end does not wait for the pause to end", gate.stop())
    }

    @Test
    fun `reading goes on while a run is paused, and ends with it`() {
        val gate = Gate { _, _ -> }
        gate.set(Pause.HOT, true)
        assertFalse(gate.stopReading())
        gate.end()
        assertTrue(gate.stopReading())
    }
}
