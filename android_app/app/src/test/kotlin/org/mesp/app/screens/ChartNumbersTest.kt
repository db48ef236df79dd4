package org.mesp.app.screens

import org.junit.Assert.assertEquals
import org.junit.Test

/** The numbers of charts. */
class ChartNumbersTest {
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
}
