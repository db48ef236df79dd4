package org.mesp.core.data

import java.io.File
import java.io.RandomAccessFile
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.IntBuffer
import java.nio.channels.FileChannel
import org.mesp.core.UsageException
import org.mesp.core.engine.FilePart
import org.mesp.core.engine.readLayout

/** What no merge has for its rank, and no token for its id. */
internal const val NONE = Int.MAX_VALUE

/**
 * The tokens of a BPE model, and which two become a third: the file that export/bundle/vocabulary.py describes, mapped. Beside it a hash
 * table is in memory, 8 bytes or less a token.
 *
 * @throws UsageException the file is damaged
 */
internal class Vocabulary(file: File) {
    private val spellings: ByteBuffer
    private val starts: IntBuffer
    private val merges: IntBuffer
    private val cuts: IntBuffer
    private val ranks: IntBuffer
    private val table: IntArray // of id + 1, 0 where it is free

    /** Ids, some of which may be of no token here. */
    val size: Int

    /** Bytes of the longest token. */
    val longest: Int

    init {
        val parts = readLayout(file)
        val all = RandomAccessFile(file, "r").use { it.channel.map(FileChannel.MapMode.READ_ONLY, 0, it.length()) }
        fun part(name: String, dtype: String): ByteBuffer {
            val part: FilePart = parts[name]?.takeIf { it.spec.dtype == dtype } ?: throw damaged(file)
            val view = all.duplicate()
            view.position(part.start.toInt()).limit((part.start + part.spec.bytes).toInt())
            return view.slice().order(ByteOrder.LITTLE_ENDIAN)
        }
        spellings = part("spellings", "uint8")
        starts = part("starts", "int32").asIntBuffer()
        merges = part("merges", "int32").asIntBuffer()
        cuts = part("cuts", "int32").asIntBuffer()
        ranks = part("ranks", "int32").asIntBuffer()
        val ids = starts.limit() - 1
        val whole = ids >= 0 && merges.limit() == starts.limit() && cuts.limit() == ranks.limit() &&
            ascends(starts, spellings.limit()) && ascends(merges, cuts.limit())
        if (!whole) throw damaged(file)
        size = ids
        table = IntArray(Integer.highestOneBit(maxOf(ids, 1)) * 4)
        longest = (0 until ids).maxOfOrNull(::length) ?: 0
        val word = ByteArray(longest)
        for (id in 0 until ids) {
            if (length(id) > 0) table[place(word, 0, copy(id, word))] = id + 1
        }
    }

    /** Bytes of a token. */
    fun length(id: Int): Int = starts[id + 1] - starts[id]

    /** The bytes of a token. */
    fun spelling(id: Int): ByteArray = ByteArray(length(id)).also { copy(id, it) }

    /** The token that these bytes spell, or [NONE]. */
    fun find(word: ByteArray, start: Int, end: Int): Int {
        if (end - start > longest) return NONE
        val entry = table[place(word, start, end)]
        return if (entry == 0) NONE else entry - 1
    }

    /** The rank of the merge to this token of two of which the first has [cut] bytes, or [NONE] if there is none. */
    fun rank(id: Int, cut: Int): Int {
        for (merge in merges[id] until merges[id + 1]) if (cuts[merge] == cut) return ranks[merge]
        return NONE
    }

    private fun copy(id: Int, word: ByteArray): Int {
        val length = length(id)
        for (index in 0 until length) word[index] = spellings[starts[id] + index]
        return length
    }

    /** Where in the table these bytes are, or would be. */
    private fun place(word: ByteArray, start: Int, end: Int): Int {
        var hash = 0
        for (index in start until end) hash = (hash xor word[index].toInt()) * 0x01000193
        var place = (hash xor (hash ushr 15)) and table.size - 1
        while (table[place] != 0 && !spells(table[place] - 1, word, start, end)) place = (place + 1) and table.size - 1
        return place
    }

    private fun spells(id: Int, word: ByteArray, start: Int, end: Int): Boolean {
        if (length(id) != end - start) return false
        val first = starts[id]
        for (index in start until end) if (spellings[first + index - start] != word[index]) return false
        return true
    }
}

/** Whether the numbers begin with 0, end with [end], and never fall. */
private fun ascends(numbers: IntBuffer, end: Int): Boolean {
    for (index in 1 until numbers.limit()) if (numbers[index] < numbers[index - 1]) return false
    return numbers.limit() > 0 && numbers[0] == 0 && numbers[numbers.limit() - 1] == end
}

private fun damaged(file: File) = UsageException("$file is damaged. Export the bundle again.")
