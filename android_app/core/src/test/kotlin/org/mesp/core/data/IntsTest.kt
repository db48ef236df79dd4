package org.mesp.core.data

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test

class IntsTest {
    @Test
    fun `numbers and bits are what was added, over many blocks`() {
        val ints = Ints()
        val bits = Bits()
        for (number in 0 until 100_000) {
            ints.add(number * 7)
            bits.add(number % 3 == 0)
        }
        assertEquals(100_000, ints.size)
        assertTrue((0 until 100_000).all { ints[it] == it * 7 && bits[it] == (it % 3 == 0) })
        ints[50_000] = -1
        assertEquals(-1, ints.toArray()[50_000])
    }

    @Test
    fun `a number takes four bytes, and few numbers little`() {
        assertEquals(16, Ints().capacity)
        val ints = Ints()
        repeat(1_000_000) { ints.add(it) }
        assertTrue(ints.capacity in 1_000_000..1_020_000, "${ints.capacity}")
    }
}
