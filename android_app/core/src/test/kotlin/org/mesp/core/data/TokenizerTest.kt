package org.mesp.core.data

import java.io.File
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.assertThrows
import org.junit.jupiter.api.io.TempDir
import org.mesp.core.UsageException

class TokenizerTest {
    @TempDir
    lateinit var folder: File

    private fun refused(words: String, file: File = folder) {
        val message = assertThrows<UsageException> { openTokenizer(file) }.message!!
        assertTrue(words in message, message)
    }

    @Test
    fun `special tokens are found in the text, the longest of the earliest first`() {
        val description = """{"splits": [".+"], "special": {"ab": 3, "abc": 4, "bcd": 5}}"""
        val tokenizer = openTokenizer(writeTokenizer(folder, tokenizer = description))
        val tokens = tokenizer.encode("xabcdab")
        assertEquals(listOf('x'.code, 4, 'd'.code, 3), tokens.ids.asList())
        assertEquals(listOf(0, 1, 4, 5), tokens.starts.asList())
        assertEquals(listOf(1, 4, 5, 7), tokens.ends.asList())
    }

    @Test
    fun `places are code points of the text, and special tokens are put around it`() {
        val tokenizer = openTokenizer(writeTokenizer(folder))
        val tokens = tokenizer.encode("👍a</s>b")
        assertEquals(listOf('a'.code, 2, 'b'.code), tokens.ids.asList())
        assertEquals(listOf(2, 6), tokens.starts.asList().drop(1))
        assertEquals(listOf(1, 'a'.code), tokenizer.ids("a").asList())
        assertEquals(listOf(1), tokenizer.ids("").asList())
        assertEquals(2, tokenizer.end)
    }

    @Test
    fun `characters that the vocabulary lacks are dropped as a whole or refused`() {
        val tokenizer = openTokenizer(writeTokenizer(folder))
        assertEquals(listOf('a'.code, 'b'.code), tokenizer.encode("a\u0001é你b").ids.asList())
        writeVocabulary(folder, (33..126).associateWith { byteArrayOf(it.toByte()) } + (200 to byteArrayOf(-61))) // the first byte of é
        val message = assertThrows<UsageException> { openTokenizer(folder).encode("é") }.message!!
        assertTrue("no token for a part of the character U+00E9" in message, message)
    }

    @Test
    fun `a composed character has the place of the first one that it was made of`() {
        for ((text, made, places) in listOf(
            Triple("ab", "ab", listOf(0, 1)),
            Triple("e\u0301\u0301x\u212b", "é\u0301x\u00c5", listOf(0, 2, 3, 4)),
            Triple("q\u0307\u0323", "q\u0323\u0307", listOf(0, 1, 2)),
            Triple("\n\u0344x", "\n\u0308\u0301x", listOf(0, 1, 1, 2)),
            Triple("\u0958x", "\u0915\u093cx", listOf(0, 0, 1)),
            Triple("\u1112\u1161\u11abx", "\ud55cx", listOf(0, 3)),
        )) {
            val points = composed(text)
            assertEquals(made, String(points.values, 0, points.size))
            assertEquals(places, points.places.asList(), text)
        }
    }

    @Test
    fun `a character stands for its class in every engine`() {
        val letters = "41-5a 61-7a 17f 3b1-3c9 10400-1044f"
        val classes = CharacterClasses(TokenizerDescription(letters = letters, numbers = "30-39 660", spaces = "9-d 20 85"))
        assertEquals("Az09 \r\n\t\t!ſ", "Az09 \r\n\u000b\u0085!ſ".map { classes.standIn(it.code) }.joinToString(""))
        assertEquals("ää²§", listOf(0x3b1, 0x1044f, 0x660, 0x661).map { classes.standIn(it) }.joinToString(""))
    }

    @Test
    fun `a tokenizer that cannot be reproduced is refused with the reason`() {
        writeTokenizer(folder, tokenizer = """{"unsupported": "its model is Unigram"}""")
        refused("cannot be reproduced on a phone: its model is Unigram. Train on")
    }

    @Test
    fun `a damaged or foreign folder is refused`() {
        refused("has no mobile.json. Export the bundle again")
        refused("has version 2; this mesp reads 3", writeTokenizer(folder, version = 2))
        writeTokenizer(folder)
        val vocabulary = File(folder, "vocabulary.safetensors")
        val whole = vocabulary.readBytes()
        for (part in listOf("\"spellings\"" to "\"spelling_\"", "\"I32\"" to "\"F32\"")) {
            vocabulary.writeBytes(String(whole, Charsets.ISO_8859_1).replace(part.first, part.second).toByteArray(Charsets.ISO_8859_1))
            refused("vocabulary.safetensors is damaged")
        }
        vocabulary.writeBytes(whole.copyOf(whole.size - 1))
        refused("cut short")
        vocabulary.delete()
        refused("vocabulary.safetensors cannot be read")
        File(folder, "mobile.json").writeText("[]")
        refused("mobile.json is damaged")
    }
}
