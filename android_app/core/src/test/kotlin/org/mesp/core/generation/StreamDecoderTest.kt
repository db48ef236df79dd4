package org.mesp.core.generation

import java.io.File
import kotlinx.serialization.Serializable
import kotlinx.serialization.json.Json
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.DynamicTest
import org.junit.jupiter.api.DynamicTest.dynamicTest
import org.junit.jupiter.api.TestFactory
import org.mesp.core.data.openTokenizer

/** Against the pieces of text that the Python runtime makes of the same tokens: `python -m tests.android_golden` wrote them. */
class StreamDecoderTest {
    @Serializable
    private class Stream(val ids: List<Int>, val pieces: List<String>)

    private val folder = File(System.getProperty("mesp.golden") ?: System.getenv("MESP_GOLDEN") ?: "../../build/android_golden")

    @TestFactory
    fun `tokens become the pieces of text that Python shows`(): List<DynamicTest> =
        folder.listFiles().orEmpty().filter { File(it, "streams.jsonl").isFile }.sorted().map { folder ->
            dynamicTest(folder.name) {
                val tokenizer = openTokenizer(File(folder, "tokenizer"))
                val lines = File(folder, "streams.jsonl").readLines().map { Json.decodeFromString<Stream>(it) }
                assertTrue(lines.size > 400)
                for (line in lines) {
                    val decoder = StreamDecoder(tokenizer)
                    val pieces = line.ids.map(decoder::add) + decoder.finish()
                    val text = pieces.joinToString("")
                    assertEquals(line.pieces.joinToString(""), text, "${line.ids}")
                    // Python waits for one more byte before it replaces what would be half of a surrogate.
                    if ('\ufffd' !in text) assertEquals(line.pieces, pieces, "${line.ids}")
                }
                assertTrue(tokenizer.stops().isNotEmpty())
            }
        }
}
