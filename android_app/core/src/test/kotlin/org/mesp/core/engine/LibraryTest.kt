package org.mesp.core.engine

import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.channels.FileChannel
import java.nio.file.StandardOpenOption.READ
import kotlin.math.sqrt
import kotlinx.serialization.Serializable
import kotlinx.serialization.json.Json
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.pytorch.executorch.EValue
import org.pytorch.executorch.ExecuTorchRuntime
import org.pytorch.executorch.Module
import org.pytorch.executorch.Tensor

/**
 * The app's native library: it loads, has what bundles need, and computes what the Python runtime does.
 *
 * tools/cases.py left a call of every program of the host's runs, with its results; here the phone's library makes the same calls.
 */
class LibraryTest {
    private val programs =
        File(System.getProperty("mesp.cases") ?: error("No -Dmesp.cases. Run the tests by: make test-android")).resolve("programs")

    @Test
    fun `has the backend and the operators that bundles need`() {
        val runtime = ExecuTorchRuntime.getRuntime()
        assertTrue(runtime != null)
        assertTrue("XnnpackBackend" in ExecuTorchRuntime.getRegisteredBackends())
        val operators = ExecuTorchRuntime.getRegisteredOps().toSet()
        println("${operators.size} operators, backends ${ExecuTorchRuntime.getRegisteredBackends().joinToString()}")
        assertTrue("aten::add.out" in operators)
    }

    @Test
    fun `computes what the Python runtime computes, program by program`() {
        val names = programs.list()!!.filter { it.endsWith(".json") }.map { it.removeSuffix(".json") }.sorted()
        assertTrue(names.isNotEmpty())
        for (name in names) check(name)
    }

    private fun check(bundle: String) {
        val calls = Json.decodeFromString<Map<String, Call>>(programs.resolve("$bundle.json").readText())
        val data =
            FileChannel.open(programs.resolve("$bundle.bin").toPath(), READ).use {
                it.map(FileChannel.MapMode.READ_ONLY, 0, it.size())
            }
        val module = load(bundle, 2)
        val methods = module.getMethods().toSet()
        var worst = 0.0
        for ((name, call) in calls) {
            assertTrue(name in methods, "the library finds $methods, and not $name")
            val arguments = call.arguments.map { EValue.from(it.tensor(data)) }
            val results = module.execute(name, *arguments.toTypedArray())
            assertEquals(call.results.size, results.size, name)
            for ((result, expected) in results.zip(call.results)) {
                worst = maxOf(worst, distance(result.toTensor(), expected, data, "$bundle, $name"))
            }
        }
        println("$bundle: ${calls.size} programs, worst relative distance $worst")
        module.close()
    }

    private fun load(bundle: String, threads: Int): Module =
        Module.load(programs.resolve("../bundles/$bundle/program.pte").path, Module.LOAD_MODE_MMAP, threads)

    @Test
    fun `tells of a wrong call by an exception`() {
        val module = load("llama", 1)
        assertThrows(RuntimeException::class.java) { module.execute("no such program") }
        assertThrows(RuntimeException::class.java) { Module.load(programs.resolve("llama.json").path).execute("forward") }
        module.close()
    }

    private fun distance(tensor: Tensor, expected: Place, data: ByteBuffer, program: String): Double {
        val reference = expected.tensor(data).getDataAsFloatArray()
        val values = tensor.getDataAsFloatArray()
        assertEquals(reference.size, values.size, program)
        var square = 0.0
        var size = 0.0
        for ((i, value) in values.withIndex()) {
            val other = reference[i].toDouble()
            square += (value - other) * (value - other)
            size += other * other
        }
        val distance = sqrt(square / maxOf(size, 1e-30))
        val tolerance = if (expected.dtype == "float16") HALF_TOLERANCE else TOLERANCE
        assertTrue(distance < tolerance, "$program: a result is $distance away from Python's, relative in norm")
        return distance
    }

    @Serializable
    private class Call(val arguments: List<Place>, val results: List<Place>)

    @Serializable
    private class Place(val dtype: String, val shape: List<Long>, val offset: Int) {
        /** The bytes of this tensor; ExecuTorch wants a buffer in native order that ends where the tensor ends. */
        fun bytes(data: ByteBuffer): ByteBuffer {
            val item = mapOf("float32" to 4, "float16" to 2, "int64" to 8, "int8" to 1).getValue(dtype)
            return data.slice(offset, (shape.fold(1L, Long::times) * item).toInt()).order(ByteOrder.nativeOrder())
        }

        fun tensor(data: ByteBuffer): Tensor {
            val sizes = shape.toLongArray()
            return when (dtype) {
                "float32" -> Tensor.fromBlob(bytes(data).asFloatBuffer(), sizes)
                "float16" -> Tensor.fromBlob(bytes(data).asShortBuffer(), sizes)
                "int64" -> Tensor.fromBlob(bytes(data).asLongBuffer(), sizes)
                else -> Tensor.fromBlob(bytes(data), sizes)
            }
        }
    }

    private companion object {
        /** Of a result; the same kernels of another ExecuTorch release, and on arm64 other instructions. */
        const val TOLERANCE = 1e-5

        /** Of one in half precision: the last bit of some values may differ. */
        const val HALF_TOLERANCE = 1e-3
    }
}
