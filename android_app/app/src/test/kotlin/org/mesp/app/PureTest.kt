package org.mesp.app

import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertTrue
import org.junit.Test

/** What needs no Android. */
class PureTest {
    @Test
    fun `ticks are round`() {
        assertEquals(listOf(0.0, 20.0, 40.0, 60.0), ticks(0.0, 60.0, 4))
        assertEquals(listOf(3.5, 4.0, 4.5), ticks(3.3, 4.6, 4))
        assertEquals(listOf(0.0, 1.0, 2.0, 3.0, 4.0), ticks(0.0, 4.2, 5))
        assertEquals(1, decimals(listOf(3.5, 4.0, 4.5)))
        assertEquals(0, decimals(listOf(0.0, 20.0)))
        assertEquals(2, decimals(listOf(0.05, 0.1)))
    }

    @Test
    fun `smoothing is a mean over a tenth`() {
        assertEquals(listOf(1.0, 2.0, 3.0), smooth(listOf(1.0, 2.0, 3.0)))
        val many = smooth((1..20).map { it.toDouble() })
        assertEquals(1.0, many[0], 1e-12)
        assertEquals(19.5, many[19], 1e-12)
    }

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
    fun `a form survives its JSON`() {
        val form = Form("b", "d", mapOf(Field.STEPS to "5", Field.RATE to "0,001"), "sgd", "cosine", onlyWhileCharging = true)
        assertEquals(form, Form.fromJson(form.toJson()))
        assertEquals(Form(), Form.fromJson("{\"bundle\": 3"))
        assertEquals("0.001", form.settings().getValue("lr").toString())
        assertFalse("warmup" in form.settings())
    }

    @Test
    fun `a run may not be named like a way elsewhere`() {
        for (name in listOf("a", "2026-11-24_1617", "x.y")) assertTrue(name, Folders.isName(name))
        for (name in listOf("", ".", "..", "a/b", "../a", ".a", "a b")) assertFalse(name, Folders.isName(name))
    }
}
