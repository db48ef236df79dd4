package org.mesp.core.data

import java.io.File
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir

class MergerTest {
    @TempDir
    lateinit var folder: File

    private fun merged(vocabulary: Vocabulary, word: String, fallback: IntArray? = null, whole: Boolean = false): List<Int> {
        val bytes = word.toByteArray()
        return ArrayList<Int>().also { Merger(vocabulary, fallback, whole).merge(bytes, bytes.size, it::add) }
    }

    private fun vocabulary(tokens: List<String>, vararg merges: Pair<String, String>) =
        Vocabulary(writeVocabulary(folder, tokens.withIndex().associate { it.index to it.value.toByteArray() }, merges.asList()))

    @Test
    fun `the first merge comes first, and of the same ones the leftmost`() {
        val tokens = listOf("a", "b", "c", "aa", "bc", "ab", "aab")
        val made = vocabularyOf(folder, tokens)
        fun parts(word: String) = merged(made, word).map(tokens::get)
        assertEquals(listOf("aa", "a"), parts("aaa"))
        assertEquals(listOf("a", "bc"), parts("abc"))
        assertEquals(listOf("aa", "aa", "bc"), parts("aaaabc"))
        assertEquals(listOf("aab", "aa"), parts("aabaa"))
    }

    @Test
    fun `the order is the merges', not that of the tokens' ids`() {
        val tokens = listOf("ab", "bc", "a", "b", "c")
        assertEquals(listOf(2, 1), merged(vocabulary(tokens, "b" to "c", "a" to "b"), "abc"))
        assertEquals(listOf(0, 4), merged(vocabulary(tokens, "a" to "b", "b" to "c"), "abc"))
    }

    @Test
    fun `only those two make a token that are a merge`() {
        val tokens = listOf("a", "aa", "aaa")
        assertEquals(listOf(1, 1), merged(vocabulary(tokens, "a" to "aa", "a" to "a"), "aaaa"))
        assertEquals(listOf(1, 0), merged(vocabulary(tokens, "a" to "a"), "aaa"))
        assertEquals(listOf(2), merged(vocabulary(tokens, "a" to "a", "aa" to "a"), "aaa"))
    }

    @Test
    fun `a word that is a token is taken as it is where the tokenizer does so`() {
        val made = vocabulary(listOf("a", "b", "ab"))
        assertEquals(listOf(0, 1), merged(made, "ab"))
        assertEquals(listOf(2), merged(made, "ab", whole = true))
    }

    @Test
    fun `a character that is no token becomes its bytes`() {
        val tokens = mapOf(256 to "a", 257 to "é", 258 to "aé", 259 to "▁").mapValues { it.value.toByteArray() }
        val made = Vocabulary(writeVocabulary(folder, tokens, listOf("a" to "é")))
        val fallback = IntArray(256) { it }
        assertEquals(listOf(258, 259, 'b'.code, 0xE4, 0xBD, 0xA0, 257), merged(made, "aé▁b你é", fallback))
        assertEquals(listOf(1, 1, 3, 3), listOf(0xE4, 256, 258, 259).map(Merger(made, fallback)::length))
    }
}
