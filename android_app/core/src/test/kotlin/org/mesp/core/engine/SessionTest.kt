package org.mesp.core.engine

import java.io.File
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir
import org.mesp.core.Cases
import org.mesp.core.data.Example
import org.mesp.core.data.Inputs

class SessionTest {
    @TempDir lateinit var temporary: File

    private val vector = listOf(4)
    private val program = ProgramSpec(listOf(Argument("x", vector, "float32")), listOf(Argument("y", vector, "float32")), plannedBytes = 0)

    private fun call(reference: Source) = Call("p", listOf(reference), listOf("y"))

    private fun elements(vararg instructions: Instruction) = inputElements(instructions.asList(), mapOf("p" to program), setOf("x", "seed"))

    @Test
    fun `what is read of an input ends where the last part of it ends`() {
        assertEquals(mapOf("x" to 7), elements(call(Reference("x", 3, emptyMap())), call(Reference("x", 1, emptyMap()))))
        val part = Reference("x", 2, mapOf("row" to 4L, "tile" to 1L))
        val tiles = For("tile", 0, 2, reverse = true, listOf(call(part)))
        assertEquals(mapOf("x" to 2 + 4 * 4 + 1 + 4), elements(For("row", 2, 3, reverse = false, listOf(Phase("head", listOf(tiles))))))
    }

    @Test
    fun `a seed is one element, and what is no input is not counted`() {
        val draw = Draw(Reference("noise", 0, emptyMap()), "seed", emptyMap(), vector, "float32")
        assertEquals(mapOf("seed" to 1), elements(draw, call(Reference("kept", 0, emptyMap())), call(Named("y"))))
    }

    @Test
    fun `inputs that are missing, too short or too long are refused`() {
        val bundle = Bundle.open(Cases.bundle("llama-sgd"))
        val tokens = bundle.manifest.tokens
        val inputs = Inputs(Size(tokens, tokens)).of(Example(IntArray(tokens) { it }, IntArray(tokens) { it + 1 }), tokens) + ("lora_scale" to 1.0)
        val schedule = "evaluate.$tokens"
        Session(bundle, listOf(schedule), 1, {}, temporary).use { session ->
            assertTrue(session.run(schedule, inputs).getValue("loss") > 0)
            val wrong =
                mapOf<String, Map<String, Any>>(
                    "reads $tokens elements of input_ids, not ${tokens - 1}" to inputs + ("input_ids" to LongArray(tokens - 1)),
                    "reads $tokens elements of input_ids, not ${tokens + 1}" to inputs + ("input_ids" to LongArray(tokens + 1)),
                    "reads 1 elements of lora_scale, not 2" to inputs + ("lora_scale" to FloatArray(2)),
                    "reads targets, which is not given" to inputs - "targets",
                    "not a String" to inputs + ("targets" to "some"),
                )
            for ((message, given) in wrong) {
                val error = assertThrows(IllegalArgumentException::class.java) { session.run(schedule, given) }
                assertTrue(message in error.message!!, error.message)
            }
        }
    }
}
