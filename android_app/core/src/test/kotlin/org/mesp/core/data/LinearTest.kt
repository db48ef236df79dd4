package org.mesp.core.data

import java.io.File
import kotlin.random.Random
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir

/** Tokenizing takes work in proportion to the text, counted in characters given to matchers and in bytes looked at: a phone's clock is not here. */
class LinearTest {
    @TempDir
    lateinit var folder: File

    private val qwen = """(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""
    private val expressions = listOf("""\p{N}""", qwen)

    private fun texts(length: Int) =
        mapOf(
            "words" to "Who's there? Nay, answer me:\n  stand, and unfold yourself. ",
            "one word" to "unfold",
            "a digit each" to "0123456789",
            "blanks" to "      ",
            "line ends" to "\r\n",
            "no class" to "!?-_",
        ).mapValues { (_, text) -> text.repeat(length / text.length + 1).take(length) }

    /** The words of a text that comes in parts of this length, and the matchers' work. */
    private fun split(text: String, part: Int): Pair<List<String>, Long> {
        val words = ArrayList<String>()
        lateinit var splitter: Splitter
        splitter = Splitter(expressions) { start, end -> words += splitter.waiting.substring(start, end) }
        for (piece in text.chunked(part)) {
            splitter.waiting.append(piece)
            splitter.waiting.delete(0, splitter.cut(false))
        }
        splitter.cut(true)
        return words to splitter.work
    }

    @Test
    fun `matchers are given as much a character in a long text as in a short one`() {
        val (short, long) = listOf(20_000, 160_000).map { length -> texts(length).mapValues { split(it.value, 8192).second.toDouble() / length } }
        for ((name, work) in short) {
            assertTrue(work < 1100, "$name: $work characters for each")
            assertTrue(long.getValue(name) < 1.5 * work, "$name: $work for each, then ${long.getValue(name)}")
        }
    }

    @Test
    fun `merging takes n log n, also in one long word`() {
        val spellings = listOf("a", "b", "ab", "ba", "abab", "aa", "aaaa", "abababab", "bb")
        val vocabulary = vocabularyOf(folder, spellings)
        fun work(word: String): Double {
            val merger = Merger(vocabulary)
            merger.merge(word.toByteArray(), word.length) {}
            return merger.work.toDouble() / word.length
        }
        for (text in listOf("ab", "a", "abba", "aabab")) {
            val (short, long) = listOf(10_000, 200_000).map { work(text.repeat(it / text.length)) }
            assertTrue(short < 60, "$text: $short for each byte")
            assertTrue(long < 1.2 * short, "$text: $short for each byte, then $long")
        }
    }

    @Test
    fun `a text in parts has the words of the whole`() {
        val random = Random(0)
        val pieces = listOf("a", "ab", " ", "  ", "\n", "\r\n", "7", "'s", "'L", "!", "x".repeat(300), " ".repeat(300), "!".repeat(600), "ä")
        repeat(200) {
            val text = List(random.nextInt(1, 30)) { pieces.random(random) }.joinToString("")
            val whole = ArrayList<String>()
            for (piece in naive(text, expressions[0])) whole += naive(piece, expressions[1])
            assertEquals(whole, split(text, random.nextInt(1, 400)).first, text)
        }
    }

    private fun naive(text: String, expression: String): List<String> {
        val words = ArrayList<String>()
        var done = 0
        for (match in Regex(expression).findAll(text)) {
            words += text.substring(done, match.range.first)
            words += match.value
            done = match.range.last + 1
        }
        return (words + text.substring(done)).filter(String::isNotEmpty)
    }

    @Test
    fun `a word may be longer than a part of a text`() {
        val tokenizer = openTokenizer(writeTokenizer(folder))
        assertEquals(listOf(1) + List(50_000) { 'a'.code } + ' '.code, tokenizer.ids("a".repeat(50_000) + " ").asList())
    }

    @Test
    fun `a text in parts has the tokens of the whole`() {
        val tokenizer = openTokenizer(writeTokenizer(folder, tokenizer = """{"splits": [" ?[^ ]+|[ ]+"], "nfc": true, "special": {"<s>": 1, "</s>": 2}}"""))
        val random = Random(1)
        val pieces = listOf("ab", " ", "<s>", "</s>", "<", "</", "s>", "e\u0301", "\u0301", "\u1112\u1161", "👍", "x".repeat(200))
        repeat(200) {
            val text = List(random.nextInt(1, 40)) { pieces.random(random) }.joinToString("")
            val tokens = tokenizer.encode(text)
            val parts = text.chunked(random.nextInt(1, 9))
            val ids = ArrayList<Int>()
            tokenizer.allIds({ receive -> parts.forEach(receive) }, ids::add)
            assertEquals(tokens.ids.asList(), ids, text)
        }
    }
}
