package org.mesp.core.data

import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.security.MessageDigest
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.assertThrows
import org.junit.jupiter.api.io.TempDir
import org.mesp.core.UsageException

class DatasetTest {
    @TempDir
    lateinit var folder: File

    private val tokenizer get() = writeTokenizer(File(folder, "tokenizer"))

    private fun file(vararg rows: String, name: String = "rows.jsonl") = File(folder, name).apply { writeText(rows.joinToString("\n")) }

    private fun ids(vararg ids: Int, masked: Int = 0) =
        """{"input_ids": ${ids.toList()}, "labels": ${ids.mapIndexed { index, id -> if (index < masked) MASKED else id }}}"""

    private fun load(file: File, tokens: Int = 100, packing: Boolean = true) = loadData(file, tokens, 200, tokenizer, packing).first

    private fun listed(dataset: Dataset) = dataset.examples.map { it.inputIds.asList() to it.targets.asList() }

    private fun refused(words: String, load: () -> Unit) {
        val message = assertThrows<UsageException> { load() }.message!!
        assertTrue(words in message, message)
    }

    @Test
    fun `texts are closed and joined and none predicts the next`() {
        val rows = file("""{"text": "ab"}""", """{"text": "cd</s>"}""")
        val (a, b, c, d) = "abcd".map { it.code }
        val joined = listOf(1, a, b, 2, 1, c, d) to listOf(a, b, 2, MASKED, c, d, 2)
        assertEquals(listOf(joined), listed(load(rows)))
        assertEquals(listOf(listOf(1, a, b) to listOf(a, b, 2), listOf(1, c, d) to listOf(c, d, 2)), listed(load(rows, packing = false)))
        val windows = listOf(listOf(1, a, b) to listOf(a, b, 2), listOf(2, 1, c) to listOf(MASKED, c, d), listOf(d) to listOf(2))
        assertEquals(windows, listed(load(rows, tokens = 3)))
    }

    @Test
    fun `a long row is cut and counted and one without targets left out`() {
        val eight = (1..8).toList().toIntArray()
        val rows = file(ids(*eight), ids(5), ids(), ids(5, 6, 7, masked = 3), ids(*eight, masked = 5), ids(5, 6))
        val data = load(rows, tokens = 4)
        assertEquals(listOf(listOf(1, 2, 3, 4) to listOf(2, 3, 4, 5), listOf(5) to listOf(6)), listed(data))
        assertEquals(listOf(2, 6, 4), listOf(data.cutRows, data.cutTokens, data.maskedRows))
    }

    @Test
    fun `a completion's targets begin where its tokens and the prompt's part`() {
        val (example) = load(file("""{"prompt": "ab", "completion": "c"}""")).examples
        assertEquals(listOf(MASKED, MASKED, 'c'.code, 2), example.targets.asList())
    }

    @Test
    fun `held out rows are chosen by the seed and keep their order`() {
        val rows = file(*Array(10) { ids(it, it + 1) })
        val (rest, heldOut) = loadData(rows, 4, 200, folder, evalSplit = 0.25, seed = 7)
        // In a shell: for i in 0 1 2 3 4 5 6 7 8 9; do echo "$(printf "7 split $i" | sha256sum) $i"; done | sort | head -3
        val digest = MessageDigest.getInstance("SHA-256")
        val chosen = (0 until 10).sortedBy { digest.digest("7 split $it".toByteArray()).toHexString() }.take(3).sorted()
        assertEquals(chosen, heldOut!!.examples.map { it.inputIds[0] })
        assertEquals((0 until 10).toList() - chosen.toSet(), rest.examples.map { it.inputIds[0] })
    }

    @Test
    fun `the end of a text file is held out, or another file is`() {
        val text = file("abcdefgh", name = "a.txt")
        val (rest, heldOut) = loadData(text, 4, 200, tokenizer, evalSplit = 0.3)
        assertEquals(listOf("fg", "gh"), listed(heldOut!!).single().toList().map { ids -> ids.joinToString("") { "${it.toChar()}" } })
        assertEquals('e'.code, rest.examples.last().targets.last()) // 3 of the 9 tokens are held out
        val other = loadData(text, 4, 200, tokenizer, evalPath = file("xy", name = "b.txt")).second!!
        assertEquals(listOf('x'.code, 'y'.code), other.examples.single().targets.asList())
    }

    @Test
    fun `the order is the one of the hashes, from any position`() {
        val data = load(file(*Array(5) { ids(it, 0) }))
        fun order(start: Long, count: Int, shuffle: Boolean = true, seed: Long = 3) =
            data.order(start, shuffle, seed).take(count).map { it.inputIds[0] }.toList()
        assertEquals(listOf(0, 1, 2, 3, 4, 0, 1), order(0, 7, shuffle = false))
        // In a shell: for i in 0 1 2 3 4; do echo "$(printf "3 0 $i" | sha256sum) $i"; done | sort, and with "3 1 $i"
        assertEquals(listOf(4, 2, 0, 1, 3, 4, 0, 3, 1, 2), order(0, 10))
        for (start in 0..11) assertEquals(order(0, 22).subList(start, start + 10), order(start.toLong(), 10))
    }

    @Test
    fun `the fingerprint is of each length, inputs and targets`() {
        val bytes = ByteBuffer.allocate(32).order(ByteOrder.LITTLE_ENDIAN)
        for (number in listOf(2, 1, 2, 2, 3, 1, 4, 5)) bytes.putInt(number)
        val expected = MessageDigest.getInstance("SHA-256").digest(bytes.array()).toHexString()
        assertEquals(expected, load(file(ids(1, 2, 3), ids(4, 5))).fingerprint)
    }

    @Test
    fun `an evaluation takes some of the examples, spread over all of them`() {
        val examples = load(file(*Array(10) { ids(it, 0) })).examples
        fun spread(most: Int?) = examples.spread(most).map { it.inputIds[0] }
        assertEquals(listOf(0, 2, 5, 7), spread(4))
        assertEquals((0 until 10).toList(), spread(null))
        assertEquals((0 until 10).toList(), spread(10))
    }

    @Test
    fun `the reading of a long text is ended between its parts`() {
        val text = file("ab ".repeat(50_000), name = "long.txt")
        var asked = 0
        assertThrows<IllegalStateException> { loadData(text, 4, 200, tokenizer) { check(++asked < 5) } }
        assertEquals(5, asked)
    }

    @Test
    fun `ids that the model does not have are refused`() {
        refused("rows.jsonl, line 2: token id 200 is not in the model's vocabulary of 200") { load(file(ids(1, 2), ids(1, 200))) }
        refused("token id -1 is not") { load(file(ids(-1, 2))) }
        refused("token id 9223372036854775807 is not") { load(file("""{"input_ids": [99999999999999999999], "labels": [1]}""")) }
        refused("label -1 is not") { load(file("""{"input_ids": [1, 2], "labels": [1, -1]}""")) }
        refused("line 1: token id 116 is not in the model's vocabulary of 50") {
            loadData(file("""{"text": "to be"}"""), 100, 50, tokenizer)
        }
    }

    @Test
    fun `text without a tokenizer is refused, and rows of ids are not`() {
        val absent = File(folder, "absent")
        refused("line 1: the row is text, but this bundle has no tokenizer") { loadData(file("""{"text": "a"}"""), 100, 200, absent) }
        loadData(file(ids(1, 2)), 100, 200, absent)
    }

    @Test
    fun `data with nothing in it or nothing to predict is refused`() {
        refused("rows.jsonl has no rows. A row has") { load(file("", "")) }
        refused("a.txt has no rows") { load(file(" ", name = "a.txt")) }
        refused("rows.jsonl has no token to predict") { load(file(ids(1, 2, 3, 4, 5, 6, 7, masked = 6)), tokens = 4) }
    }

    @Test
    fun `a part that cannot be held out is refused`() {
        val rows = file(ids(1, 2), ids(3, 4))
        refused("not both") { loadData(rows, 4, 200, folder, evalPath = rows, evalSplit = 0.5) }
        for (fraction in listOf(0.0, 1.0, Double.NaN)) {
            refused("must be a fraction") { loadData(rows, 4, 200, folder, evalSplit = fraction) }
        }
        refused("eval_split 0.1 holds out 0 of the 2 rows of") { loadData(rows, 4, 200, folder, evalSplit = 0.1) }
        refused("What eval_split 0.5 leaves of") { loadData(file(ids(1), ids(3)), 4, 200, folder, evalSplit = 0.5) }
    }
}
