package org.mesp.core.training

import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.FloatBuffer
import kotlinx.serialization.json.Json
import kotlinx.serialization.json.JsonElement
import kotlinx.serialization.json.JsonObject
import kotlinx.serialization.json.jsonObject
import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir
import org.mesp.core.Cases
import org.mesp.core.UsageException
import org.mesp.core.engine.Bundle
import org.mesp.core.engine.TensorPart
import org.mesp.core.engine.readLayout
import org.mesp.core.engine.readTensors
import org.mesp.core.engine.zeros

class AdapterTest {
    @TempDir lateinit var temporary: File

    private val lora by lazy { Bundle.open(Cases.bundle("llama-sgd")).manifest.lora }

    private fun empty() = zeros(lora.bytes).asFloatBuffer()

    private fun filled(): FloatBuffer = empty().also { for (index in 0 until it.capacity()) it.put(index, index * 0.25f) }

    private fun array(buffer: FloatBuffer) = FloatArray(buffer.capacity()) { buffer.get(it) }

    @Test
    fun `what is written is read back`() {
        writePeft(temporary, lora, filled(), Scaling(8.0, rslora = true), "model")
        val read = empty()
        assertEquals(Scaling(8.0, rslora = true), readPeft(temporary, lora, read))
        assertArrayEquals(array(filled()), array(read))
    }

    @Test
    fun `A is transposed in PEFT's file`() {
        writePeft(temporary, lora, filled(), Scaling(8.0), "model")
        val layout = readLayout(File(temporary, ADAPTER_WEIGHTS))
        assertEquals(listOf(4, 64), layout.getValue("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight").spec.shape)
        assertEquals(listOf(128, 4), layout.getValue("base_model.model.model.layers.1.self_attn.q_proj.lora_B.weight").spec.shape)
    }

    @Test
    fun `another rank, another model and another kind of adapter are refused`() {
        writePeft(temporary, lora, filled(), Scaling(8.0), "somewhere/Qwen2.5-0.5B-Q4_1.gguf")
        readPeft(temporary, lora, empty(), "Qwen/Qwen2.5-0.5b") // the same model by another name
        assertRefused("is an adapter of") { readPeft(temporary, lora, empty(), "HuggingFaceTB/SmolLM2-135M") }
        assertRefused("rank 4, but this bundle was exported with rank 5") { readPeft(temporary, lora.copy(rank = 5), empty()) }
        val config = File(temporary, ADAPTER_CONFIG)
        config.writeText(config.readText().replace("\"use_dora\": false", "\"use_dora\": true"))
        assertRefused("use_dora") { readPeft(temporary, lora, empty()) }
    }

    private fun changed(name: String, value: JsonElement) {
        writePeft(temporary, lora, filled(), Scaling(8.0), "model")
        val config = File(temporary, ADAPTER_CONFIG)
        config.writeText(JsonObject(Json.parseToJsonElement(config.readText()).jsonObject + (name to value)).toString())
    }

    @Test
    fun `options that are not computed are refused by name, and those that are off or without effect do not matter`() {
        val refused = """{"use_dora": true, "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"q_proj": 3}, "modules_to_save": ["lm_head"], "bias": "all",
            "lora_bias": true, "layer_replication": [[0, 2]], "use_warp": 1, "init_lora_weights": "pissa"}"""
        for ((name, value) in Json.parseToJsonElement(refused).jsonObject) {
            changed(name, value)
            assertRefused(name) { readPeft(temporary, lora, empty()) }
        }
        val taken = """{"target_modules": "(?:.*?self_attn.*?q_proj)", "auto_mapping": {"unsloth_fixed": true}, "lora_dropout": 0.05, "use_warp": 0,
            "warps": [], "init_lora_weights": "gaussian", "peft_version": "9.1"}"""
        for ((name, value) in Json.parseToJsonElement(taken).jsonObject) {
            changed(name, value)
            readPeft(temporary, lora, empty())
        }
    }

    @Test
    fun `tensors in PyTorch's own format are refused with what to do`() {
        writePeft(temporary, lora, filled(), Scaling(8.0), "model")
        File(temporary, ADAPTER_WEIGHTS).renameTo(File(temporary, "adapter_model.bin"))
        assertRefused("in PyTorch's own format. Convert them") { readPeft(temporary, lora, empty()) }
    }

    @Test
    fun `names of one model`() {
        assertTrue(sameBase("unsloth/qwen2.5-0.5b-instruct-unsloth-bnb-4bit", "Qwen/Qwen2.5-0.5B-Instruct"))
        assertTrue(sameBase("meta-llama/Meta-Llama-3.1-8B-Instruct", "Llama-3.1-8B-Instruct.Q4_K_M.gguf"))
        assertFalse(sameBase("Qwen/Qwen2.5-0.5B", "Qwen/Qwen2.5-0.5B-Instruct-AWQ"))
    }

    @Test
    fun `a file that was cut short is refused, and the adapter stays as it was`() {
        writePeft(temporary, lora, filled(), Scaling(8.0), "model")
        File(temporary, ADAPTER_WEIGHTS).let { it.writeBytes(it.readBytes().dropLast(8).toByteArray()) }
        val adapter = empty()
        assertRefused("cut short") { readPeft(temporary, lora, adapter) }
        assertTrue(array(adapter).all { it == 0f })
    }

    @Test
    fun `an adapter in half precision is read too`() {
        val values = floatArrayOf(0f, -0f, 0.5f, -1.5f, 65504f, 6.103515625e-5f, 5.9604645e-8f, Float.NEGATIVE_INFINITY)
        val halves = mapOf("F16" to intArrayOf(0, 0x8000, 0x3800, 0xbe00, 0x7bff, 0x0400, 0x0001, 0xfc00).map(Int::toShort))
        val brains = mapOf("BF16" to values.map { (it.toRawBits() ushr 16).toShort() })
        for ((dtype, bits) in halves + brains) {
            val file = File(temporary, dtype)
            val header = """{"x": {"dtype": "$dtype", "shape": [2, 4], "data_offsets": [0, 16]}}""".toByteArray()
            val bytes = ByteBuffer.allocate(8 + header.size + 16).order(ByteOrder.LITTLE_ENDIAN).putLong(header.size.toLong()).put(header)
            bits.forEach(bytes::putShort)
            file.writeBytes(bytes.array())
            val read = FloatBuffer.allocate(8)
            readTensors(file, readLayout(file), mapOf("x" to TensorPart(read, 0, listOf(2, 4))))
            val expected = if (dtype == "F16") values else FloatArray(8) { Float.fromBits(values[it].toRawBits() ushr 16 shl 16) }
            assertArrayEquals(expected, array(read))
        }
    }

    private fun assertRefused(message: String, action: () -> Unit) {
        val error = assertThrows(UsageException::class.java) { action() }
        assertTrue(message in error.message!!, "expected \"$message\" in: ${error.message}")
    }
}
