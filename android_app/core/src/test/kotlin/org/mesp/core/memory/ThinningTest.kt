package org.mesp.core.memory

import kotlinx.serialization.json.Json
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test

/** The same cases as tests/test_thinning.py. */
class ThinningTest {
    private fun samples(step: Int, largest: Long = 1) = listOf("forward 0", "backward 0", "between steps").mapIndexed { i, phase -> Sample(step + i / 10.0, phase, largest + i % 2, 0) }

    private fun run(steps: Int, peak: Int = 0): List<Sample> {
        val thinning = Thinning()
        return (1..steps).flatMap { thinning.step(it, samples(it, if (it == peak) 1000 else 1)) } + thinning.rest()
    }

    @Test
    fun `the first steps are logged whole, and later ones less and less`() {
        for ((steps, lines) in listOf(1 to 3, 32 to 96, 33 to 97, 100 to 3 * 33 + 67, 1000 to 3 * 36 + 964, 2000 to 3 * 37 + 964 + 100 + 1, 20_000 to 2092)) {
            assertEquals(lines, run(steps).size, "$steps steps")
        }
        val log = run(20_000)
        assertEquals(log.map(Sample::seconds).sorted(), log.map(Sample::seconds))
        assertTrue(log.sumOf { Json.encodeToString(Sample.serializer(), it).length + 1 } < 250_000)
    }

    @Test
    fun `the largest sample is always logged`() {
        for (peak in listOf(1, 33, 1001, 1009, 12_345, 19_999, 20_000)) assertEquals(1001, run(20_000, peak).maxOf(Sample::footprintBytes))
    }

    @Test
    fun `of an evaluation one line is logged, and the first sequence of the first one whole`() {
        val thinning = Thinning()
        fun evaluation(step: Int) = (1..64).flatMap { thinning.sequence(step, it, 64, samples(it, it.toLong())) }
        assertEquals(listOf(1L, 2, 1, 65), evaluation(0).map(Sample::footprintBytes))
        assertEquals(listOf(65L), evaluation(10).map(Sample::footprintBytes))
        assertEquals(emptyList<Sample>(), evaluation(1001))
        assertEquals(listOf(65L), thinning.rest().map(Sample::footprintBytes))
    }
}
