package org.mesp.app.phone

import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Test

/** When the battery is too low, and what a step takes of it. */
class BatteryTest {
    private fun isLow(percent: Double?, plugged: Boolean = false, least: Int = 20, before: Boolean = false, charging: Boolean = plugged) =
        BatteryRule.isLow(Battery(percent, plugged, charging), least, before)

    @Test
    fun `a low battery is one below the mark, until a charger charges it`() {
        assertFalse(isLow(20.0))
        assertTrue(isLow(19.0))
        assertTrue("two marks", isLow(21.0, before = true))
        assertFalse(isLow(22.0, before = true))
        assertFalse(isLow(19.0, plugged = true, before = true))
        assertTrue("a socket that gives too little", isLow(19.0, plugged = true, charging = false))
        assertFalse("not known", isLow(null))
    }

    @Test
    fun `0 is never`() {
        assertFalse(isLow(1.0, least = 0))
        assertFalse(isLow(0.0, least = 0, before = true))
    }

    @Test
    fun `a step's share comes from the counter of charge`() {
        var left = 3_000_000L
        val meter = BatteryMeter { left }
        meter.stepped(1, Battery(75.0))
        assertNull(meter.percentAStep)
        left -= 4_000 // 0.1% of 4,000 mAh: within what the counter's own steps may be
        meter.stepped(2, Battery(75.0))
        assertNull(meter.percentAStep)
        left -= 36_000
        meter.stepped(11, Battery(74.0))
        assertEquals(0.1, meter.percentAStep!!, 0.001)
    }

    @Test
    fun `a step's share comes from the level where nothing is counted`() {
        val meter = BatteryMeter { null }
        meter.stepped(1, Battery(75.0))
        meter.stepped(10, Battery(74.0))
        assertNull("a single percent may have been almost over", meter.percentAStep)
        meter.stepped(21, Battery(73.0))
        assertEquals(0.1, meter.percentAStep!!, 1e-9)
    }

    @Test
    fun `nothing is measured while a charger is there`() {
        var left = 3_000_000L
        val meter = BatteryMeter { left }
        meter.stepped(1, Battery(75.0))
        meter.stepped(2, Battery(75.0, plugged = true))
        left -= 400_000
        meter.stepped(3, Battery(65.0))
        assertNull("the charger was there in between", meter.percentAStep)
    }
}
