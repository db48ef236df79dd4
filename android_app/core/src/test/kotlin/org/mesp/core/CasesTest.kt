package org.mesp.core

import java.io.File
import java.nio.FloatBuffer
import kotlin.math.abs
import kotlin.math.max
import kotlinx.serialization.json.JsonObject
import kotlinx.serialization.json.jsonObject
import kotlinx.serialization.json.jsonPrimitive
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.DynamicTest
import org.junit.jupiter.api.TestFactory
import org.junit.jupiter.api.io.TempDir

/** Runs of the host's runtime, run again by the library's own binary: losses, norms, held-out losses and adapters must be the same. */
class CasesTest {
    @TempDir lateinit var temporary: File

    @TestFactory
    fun `trains as the host does`(): List<DynamicTest> = Cases.runs.map { name -> DynamicTest.dynamicTest(name) { compare(name) } }

    private fun compare(name: String) {
        val (bundle, host) = Cases.bundle(name) to Cases.host(name)
        val output = File(temporary, name)
        val report = train(bundle, output, Cases.settings(name), JsonObject(emptyMap()))
        assertEquals("done", report.getValue("status").jsonPrimitive.content)
        assertSameSteps(host, output, if (name == "mezo") DIFFERENCE_TOLERANCE else NORM_TOLERANCE)
        assertSameAdapters(Bundle.open(bundle).manifest.lora, host, output)
        assertSameIdentity(host, output)
    }

    private fun assertSameSteps(host: File, here: File, normTolerance: Double) {
        val (expected, found) = listOf(host, here).map { RunWriter.lines(File(it, STEPS), Step.serializer()) }
        assertEquals(expected.map { it.step to it.tokens }, found.map { it.step to it.tokens })
        for ((one, other) in expected.zip(found)) {
            assertEquals(one.loss, other.loss, LOSS_TOLERANCE, "loss of step ${one.step}")
            assertEquals(one.lr, other.lr, 1e-12)
            assertEquals(1.0, other.gradNorm / one.gradNorm, normTolerance, "gradient's norm of step ${one.step}")
        }
        val (evaluations, others) = listOf(host, here).map { RunWriter.lines(File(it, EVALUATIONS), Evaluation.serializer()) }
        assertEquals(evaluations.map(Evaluation::step), others.map(Evaluation::step))
        for ((one, other) in evaluations.zip(others)) assertEquals(one.loss, other.loss, LOSS_TOLERANCE)
    }

    private fun assertSameAdapters(lora: Lora, host: File, here: File) {
        val (expected, found) = listOf(host, here).map { run -> adapter(File(run, "adapter"), lora) }
        var largest = 0f
        var size = 0f
        for (index in 0 until expected.capacity()) {
            largest = max(largest, abs(expected.get(index) - found.get(index)))
            size = max(size, abs(expected.get(index)))
        }
        assertTrue(largest <= ADAPTER_TOLERANCE && size > 0.1f, "the adapters, of up to $size, differ by $largest")
    }

    private fun adapter(folder: File, lora: Lora): FloatBuffer = zeros(lora.bytes).asFloatBuffer().also { readPeft(folder, lora, it) }

    private fun assertSameIdentity(host: File, here: File) {
        val (expected, found) = listOf(host, here).map { RunWriter.readJson(File(it, RUN_JSON))!! }
        for (key in listOf("data", "eval_data")) assertEquals(expected[key], found[key])
        assertEquals(expected.getValue("bundle").jsonObject - "path", found.getValue("bundle").jsonObject - "path")
    }

    private companion object {
        const val LOSS_TOLERANCE = 1e-5
        const val ADAPTER_TOLERANCE = 1e-5f
        const val NORM_TOLERANCE = 1e-4

        // MeZO's gradient is the difference of two losses that are nearly the same, so their last bits weigh more in it.
        const val DIFFERENCE_TOLERANCE = 1e-3
    }
}
