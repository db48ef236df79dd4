package org.mesp.core.report

import java.io.File
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir
import org.mesp.core.readLines

class LogsTest {
    @TempDir lateinit var folder: File

    private val log by lazy { File(folder, EVALUATIONS) }

    private fun line(step: Int) = """{"step": $step, "loss": 1.5, "seconds": 2.0}"""

    private fun last() = lastLine(log, Evaluation.serializer())?.step

    @Test
    fun `a last line that was cut short is left out`() {
        assertNull(last())
        assertEquals(emptyList<Evaluation>(), readLines(log, Evaluation.serializer()))
        for ((text, steps) in listOf("" to listOf(), "{\"st" to listOf(), line(1) to listOf(), "${line(1)}\n" to listOf(1), "${line(1)}\n${line(2)}\n{\"st" to listOf(1, 2))) {
            log.writeText(text)
            assertEquals(steps, readLines(log, Evaluation.serializer()).map(Evaluation::step), text)
            assertEquals(steps.lastOrNull(), last(), text)
        }
    }

    @Test
    fun `the last line is read without the others`() {
        log.writeText("damaged\n".repeat(100_000) + line(7) + "\n")
        assertEquals(7, last())
    }
}
