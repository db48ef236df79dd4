package org.mesp.core.training

import java.io.File
import java.nio.FloatBuffer
import kotlin.math.abs
import kotlin.math.max
import kotlinx.serialization.json.jsonObject
import kotlinx.serialization.json.jsonPrimitive
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.DynamicTest
import org.junit.jupiter.api.TestFactory
import org.junit.jupiter.api.io.TempDir
import org.mesp.core.Cases
import org.mesp.core.describeMachine
import org.mesp.core.engine.Bundle
import org.mesp.core.engine.Lora
import org.mesp.core.engine.zeros
import org.mesp.core.memory.Sample
import org.mesp.core.report.EVALUATIONS
import org.mesp.core.report.Evaluation
import org.mesp.core.report.MEMORY
import org.mesp.core.report.RUN_JSON
import org.mesp.core.report.STEPS
import org.mesp.core.report.Step
import org.mesp.core.report.readJson
import org.mesp.core.readLines

/** Runs of the host's runtime, run again by the library's own binary: losses, norms, held-out losses and adapters must be the same. */
class CasesTest {
    @TempDir lateinit var temporary: File

    @TestFactory
    fun `trains as the host does`(): List<DynamicTest> = Cases.runs.map { name -> DynamicTest.dynamicTest(name) { compare(name) } }

    private fun compare(name: String) {
        val (bundle, host) = Cases.bundle(name) to Cases.host(name)
        val output = File(temporary, name)
        val report = train(bundle, output, Cases.settings(name), describeMachine())
        Cases.keep(output, name)
        assertEquals("done", report.getValue("status").jsonPrimitive.content)
        val tolerance = if (name == "float16") HALF_TOLERANCE else TOLERANCE
        assertSameSteps(host, output, tolerance)
        assertSameNorms(host, output, differences = name == "mezo")
        assertSameAdapters(Bundle.open(bundle).manifest.lora, host, output, tolerance)
        assertSameIdentity(host, output)
        assertSamePhases(host, output)
    }

    private fun assertSameSteps(host: File, here: File, tolerance: Double) {
        val (expected, found) = listOf(host, here).map { readLines(File(it, STEPS), Step.serializer()) }
        assertEquals(expected.map { it.step to it.tokens }, found.map { it.step to it.tokens })
        for ((one, other) in expected.zip(found)) {
            assertEquals(one.loss, other.loss, tolerance, "loss of step ${one.step}")
            assertEquals(one.lr, other.lr, 1e-12)
        }
        val (evaluations, others) = listOf(host, here).map { readLines(File(it, EVALUATIONS), Evaluation.serializer()) }
        assertEquals(evaluations.map(Evaluation::step), others.map(Evaluation::step))
        for ((one, other) in evaluations.zip(others)) assertEquals(one.loss, other.loss, tolerance)
    }

    /** Each norm to its own size; or, where a gradient is the difference of two losses that may be nearly the same, to the run's largest. */
    private fun assertSameNorms(host: File, here: File, differences: Boolean) {
        val (expected, found) = listOf(host, here).map { run -> readLines(File(run, STEPS), Step.serializer()).map(Step::gradNorm) }
        for ((index, norm) in expected.withIndex()) {
            val size = if (differences) expected.max() else norm
            assertEquals(norm, found[index], NORM_TOLERANCE * size, "gradient's norm of step ${index + 1}")
        }
    }

    private fun assertSameAdapters(lora: Lora, host: File, here: File, tolerance: Double) {
        val (expected, found) = listOf(host, here).map { run -> adapter(File(run, "adapter"), lora) }
        var largest = 0f
        var size = 0f
        for (index in 0 until expected.capacity()) {
            largest = max(largest, abs(expected.get(index) - found.get(index)))
            size = max(size, abs(expected.get(index)))
        }
        assertTrue(largest <= tolerance && size > 0.1f, "the adapters, of up to $size, differ by $largest")
    }

    private fun adapter(folder: File, lora: Lora): FloatBuffer = zeros(lora.bytes).asFloatBuffer().also { readPeft(folder, lora, it) }

    private fun assertSameIdentity(host: File, here: File) {
        val (expected, found) = listOf(host, here).map { readJson(File(it, RUN_JSON))!! }
        for (key in listOf("data", "eval_data", "planned_bytes")) assertEquals(expected[key], found[key])
        assertEquals(expected.getValue("bundle").jsonObject - "path", found.getValue("bundle").jsonObject - "path")
    }

    /**
     * The phases of the whole run, in their order: a reader of memory.jsonl need not know who wrote it. Of an evaluation only the largest sample is
     * logged, which may be another phase's here.
     */
    private fun assertSamePhases(host: File, here: File) {
        val (expected, found) = listOf(host, here).map { run -> readLines(File(run, MEMORY), Sample.serializer()).map(Sample::phase) }
        assertEquals(expected.size, found.size)
        if (!File(host, EVALUATIONS).readText().contains("loss")) assertEquals(expected, found)
    }

    private companion object {
        const val TOLERANCE = 1e-5 // of losses and of adapters
        const val NORM_TOLERANCE = 1e-4

        // A last bit's difference may round a block's input to the next float16.
        const val HALF_TOLERANCE = 1e-4
    }
}
