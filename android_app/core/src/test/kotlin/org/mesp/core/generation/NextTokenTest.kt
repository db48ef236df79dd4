package org.mesp.core.generation

import java.io.File
import java.nio.ByteBuffer
import java.nio.FloatBuffer
import java.security.MessageDigest
import kotlin.math.floor
import kotlinx.serialization.SerialName
import kotlinx.serialization.Serializable
import kotlinx.serialization.json.Json
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.assertThrows
import org.mesp.core.MespException
import org.mesp.core.engine.randomWord

/** Against what the Python runtime draws: `python -m tests.android_golden` wrote it. */
class NextTokenTest {
    @Serializable
    private class Case(
        val number: Int,
        val vocabulary: Int,
        val span: Double,
        @SerialName("rounded_to") val roundedTo: Double,
        val options: GenerateOptions,
        val ids: List<Int>,
        @SerialName("weights_sha256") val weights: String,
    ) {
        /** As sampled_logits of tests/android_golden.py. */
        fun logits(step: Int): FloatBuffer = FloatBuffer.wrap(
            FloatArray(vocabulary) {
                val logit = (randomWord(100L * number + step, it.toLong()) ushr 40) / 16777216.0 * span - span / 2
                (if (roundedTo == 0.0) logit else floor(logit / roundedTo) * roundedTo).toFloat()
            },
        )
    }

    private val folder = System.getProperty("mesp.golden") ?: System.getenv("MESP_GOLDEN") ?: "../../build/android_golden"
    private val cases = Json.decodeFromString<List<Case>>(File(folder, "sampled.json").readText())

    @Test
    fun `the same seed draws the tokens that Python draws, of weights that are the same to the last bit`() {
        assertTrue(cases.size > 10)
        for (case in cases) {
            val next = NextToken(case.options, case.vocabulary)
            val ids = case.ids.toIntArray()
            for (step in 0 until 6) {
                val count = ids.size - 6 + step
                assertEquals(ids[count], next.choose(case.logits(step), ids, count), "token $step of case ${case.number}")
            }
            assertEquals(case.weights, sha256(next.weights()), "weights of case ${case.number}")
        }
    }

    private fun sha256(weights: DoubleArray): String {
        val bytes = ByteBuffer.allocate(8 * weights.size).apply { asDoubleBuffer().put(weights) }
        return MessageDigest.getInstance("SHA-256").digest(bytes.array()).joinToString("") { "%02x".format(it) }
    }

    @Test
    fun `logits that are not finite are refused`() {
        for (bad in listOf(Float.NaN, Float.POSITIVE_INFINITY, Float.NEGATIVE_INFINITY)) {
            for (temperature in listOf(0.0, 1.0)) {
                val next = NextToken(GenerateOptions(temperature = temperature), 3)
                val error = assertThrows<MespException> { next.choose(FloatBuffer.wrap(floatArrayOf(1f, bad, 0f)), IntArray(0)) }
                assertTrue("not finite" in error.message!!)
            }
        }
    }

    @Test
    fun `ids come by their scores, of equal ones the lower id first`() {
        val order = Descending(6)
        order.fill(floatArrayOf(-0f, 3f, 0f, -7f, 3f, 1e-40f))
        assertEquals(listOf(1, 4, 5, 0, 2, 3), List(6) { order[it] })
    }
}
