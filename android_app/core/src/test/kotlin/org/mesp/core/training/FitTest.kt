package org.mesp.core.training

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.mesp.core.UsageException
import org.mesp.core.memory.SystemMemory

/** The same numbers as tests/test_fit.py. */
class FitTest {
    private val planned = mapOf("block_inputs" to 22 * MB, "other_buffers" to 3 * MB, "adapter" to 35 * MB, "adamw.m" to 35 * MB, "adamw.v" to 35 * MB)

    private fun warnings(available: Long, total: Long = 4000, weights: Long = 400) =
        memoryWarnings(planned, weights * MB, SystemMemory(available * MB, total * MB))

    @Test
    fun `nothing is said where there is enough`() = assertEquals(emptyList<String>(), warnings(available = 530))

    @Test
    fun `weights that do not stay in memory are told`() {
        val warning = warnings(available = 529).single()
        assertTrue(warning.startsWith("The weights have 400.0 MB, and 399.0 MB stay free beside the run: a step reads"), warning)
    }

    @Test
    fun `less free memory than the run takes is told, with what saves how much`() {
        val expected =
            "The run takes at least 130.0 MB of memory, and 129.0 MB are free: it may be ended for that. To save: optimizer sgd (70.0 MB); " +
                "an export with --offload inputs (22.0 MB); an export with a smaller --seq-len, --rank or --layers."
        assertEquals(listOf(expected), warnings(available = 129))
    }

    @Test
    fun `more than there is in all is refused`() {
        val error = assertThrows(UsageException::class.java) { warnings(available = 100, total = 129) }
        assertTrue(error.message!!.startsWith("The run takes at least 130.0 MB of memory, and there are 129.0 MB in all. To save: "), error.message)
    }

    private companion object {
        const val MB = 1_000_000L
    }
}
