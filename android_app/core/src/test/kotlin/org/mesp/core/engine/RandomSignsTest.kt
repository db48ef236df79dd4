package org.mesp.core.engine

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Test

class RandomSignsTest {
    private fun signs(seed: Long, first: Long, count: Int): String {
        val buffer = zeros(count * 4L).asFloatBuffer()
        fillWithSigns(buffer, seed, first)
        return (0 until count).joinToString("") { if (buffer.get(it) == 1f) "+" else if (buffer.get(it) == -1f) "-" else "?" }
    }

    @Test
    fun `draws the signs of runtime random_signs`() {
        assertEquals(ACROSS_WORDS, signs(seed = 12345, first = 60, count = 70))
        assertEquals(OF_A_LARGE_SEED, signs(seed = Long.MAX_VALUE, first = 0, count = 16))
    }

    private companion object {
        const val ACROSS_WORDS = "-+--+-++-+++---+++++++--+---+++-+++++-+--+++--+++-++-+++-++---+-++--+-"
        const val OF_A_LARGE_SEED = "+++--+-+-++++--+"
    }
}
