package org.mesp.core.engine

import java.io.File
import java.io.RandomAccessFile
import kotlinx.serialization.json.jsonPrimitive
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Assumptions.assumeTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir
import org.mesp.core.Cases
import org.mesp.core.UsageException

class BundleTest {
    @TempDir lateinit var temporary: File

    private val copy by lazy { File(temporary, "bundle").also { Cases.bundle("llama-sgd").copyRecursively(it) } }

    private fun assertRefused(message: String, path: File = copy) {
        val error = assertThrows(UsageException::class.java) { Bundle.open(path) }
        assertTrue(message in error.message!!, "expected \"$message\" in: ${error.message}")
    }

    @Test
    fun `opens what export wrote`() {
        val bundle = Bundle.open(copy)
        assertEquals(12, bundle.manifest.tokens)
        assertEquals(97, bundle.manifest.model.vocabulary)
        assertEquals("mesp", bundle.manifest.plan.getValue("method").jsonPrimitive.content)
        assertEquals(setOf("momentum.velocity", "adamw.m", "adamw.v"), bundle.manifest.checkpoint.toSet())
        val norm = bundle.mapWeights("norm.weight").asFloatBuffer()
        assertEquals(64, norm.capacity())
        assertEquals(1f, norm.get(0), 1f)
    }

    @Test
    fun `a method's constants are the bundle's own`() {
        assumeTrue("mezo" in Cases.runs) // as it is by make test-all
        assertEquals(mapOf("perturbation" to 0.001), Bundle.open(Cases.bundle("mezo")).manifest.constants)
        assertTrue("float16" in Bundle.open(Cases.bundle("float16")).manifest.gradientNotFinite!!)
    }

    @Test
    fun `what a method needs is the bundle's own`() {
        assertNull(Bundle.open(copy).manifest.gradientNotFinite)
        assertEquals(listOf(1), Bundle.open(Cases.bundle("upper")).manifest.lora.layersToTransform)
    }

    @Test
    fun `a folder without a manifest is no bundle`() = assertRefused("is not a bundle", temporary)

    @Test
    fun `one changed byte is found`() {
        RandomAccessFile(File(copy, WEIGHTS), "rw").use {
            it.seek(it.length() - 1)
            val last = it.read()
            it.seek(it.length() - 1)
            it.write(last xor 1)
        }
        assertRefused("SHA-256")
    }

    @Test
    fun `a file that is missing is named`() {
        File(copy, ADAPTER).delete()
        assertRefused("lacks $ADAPTER")
    }

    @Test
    fun `a newer format and an older one are told apart`() {
        val manifest = File(copy, MANIFEST)
        val text = manifest.readText()
        for ((version, message) in mapOf(99 to "Update the app", 1 to "Export it again")) {
            manifest.writeText(text.replace("\"format_version\": $BUNDLE_FORMAT", "\"format_version\": $version"))
            assertRefused(message)
        }
    }

    @Test
    fun `a manifest that was cut short is damaged`() {
        File(copy, MANIFEST).let { it.writeText(it.readText().dropLast(100)) }
        assertRefused("is damaged")
    }

    @Test
    fun `a library without an operator or a backend is refused by their names`() {
        val needs = Needs(operators = listOf("aten::embedding.out", "aten::gather.out"), backends = listOf("XnnpackBackend"))
        val error = assertThrows(UsageException::class.java) { Library.check(needs, setOf("aten::embedding.out"), emptySet()) }
        assertTrue("the backend XnnpackBackend, the operator aten::gather.out" in error.message!!, error.message)
    }

    @Test
    fun `this library has all that the bundles need`() {
        for (path in Cases.bundles) Library.check(Bundle.open(path))
    }
}
