package org.mesp.core.data

private const val NONE = Int.MAX_VALUE
private const val KEPT = 4096

/**
 * Byte-pair encoding: merges the bytes of a word to tokens. Of all neighbours that together are a token, those with the lowest id are merged
 * first, and of the same ones the leftmost: the order of the Hugging Face tokenizer. Parts wait in a heap, so a word of n bytes takes
 * n log n steps, and about 30 bytes of memory for each of its own.
 *
 * @param vocabulary the bytes of each token, by its id
 */
internal class Merger(vocabulary: Map<Int, ByteArray>) {
    private val spellings: ByteArray
    private val starts: IntArray // by id: where in the spellings a token is, and its length
    private val lengths: IntArray
    private val table: IntArray // hash table of id + 1, 0 where it is free
    private val longest = vocabulary.values.maxOf(ByteArray::size)
    private var next = IntArray(KEPT)
    private var previous = IntArray(KEPT)
    private var pairs = IntArray(KEPT)
    private val heap = LongHeap()

    /** Bytes looked at, and parts taken from the heap, so far. */
    var work = 0L
        private set

    init {
        val ids = vocabulary.keys.max() + 1
        spellings = ByteArray(vocabulary.values.sumOf(ByteArray::size))
        starts = IntArray(ids)
        lengths = IntArray(ids)
        table = IntArray(Integer.highestOneBit(vocabulary.size) * 4)
        var end = 0
        for ((id, bytes) in vocabulary) {
            bytes.copyInto(spellings, end)
            starts[id] = end
            lengths[id] = bytes.size
            end += bytes.size
            table[place(bytes, 0, bytes.size)] = id + 1
        }
    }

    /** Bytes of a token. */
    fun length(id: Int): Int = lengths[id]

    /** Tells the ids of the first [size] bytes of a word. Each byte must be a token. */
    fun merge(word: ByteArray, size: Int, receive: (Int) -> Unit) {
        val whole = find(word, 0, size)
        if (whole != NONE) return receive(whole)
        if (size > next.size) grow(size)
        for (start in 0 until size) {
            next[start] = start + 1
            previous[start] = start - 1
            pair(word, start, if (start + 2 <= size) start + 2 else -1)
        }
        while (!heap.isEmpty()) {
            val least = heap.take()
            val start = least.toInt()
            work++
            if (pairs[start] == (least ushr 32).toInt()) mergeAt(word, start, size)
        }
        var start = 0
        while (start < size) {
            receive(find(word, start, next[start]))
            start = next[start]
        }
        if (size > KEPT) grow(KEPT) // one long word should not keep its memory
    }

    private fun mergeAt(word: ByteArray, start: Int, size: Int) {
        val second = next[start]
        val third = next[second]
        pairs[second] = NONE
        next[start] = third
        if (third < size) previous[third] = start
        pair(word, start, if (third < size) next[third] else -1)
        if (previous[start] >= 0) pair(word, previous[start], third)
    }

    /** Notes which token a part and the one after it make, if they make one; [end] is where the second ends, or -1 where there is none. */
    private fun pair(word: ByteArray, start: Int, end: Int) {
        val id = if (end < 0) NONE else find(word, start, end)
        pairs[start] = id
        if (id != NONE) heap.add((id.toLong() shl 32) or start.toLong())
    }

    private fun find(word: ByteArray, start: Int, end: Int): Int {
        if (end - start > longest) return NONE
        work += end - start
        val entry = table[place(word, start, end)]
        return if (entry == 0) NONE else entry - 1
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
        if (lengths[id] != end - start) return false
        for (index in start until end) if (spellings[starts[id] + index - start] != word[index]) return false
        return true
    }

    private fun grow(size: Int) {
        next = IntArray(size)
        previous = IntArray(size)
        pairs = IntArray(size)
    }
}

/** Numbers of which the least is taken first. */
private class LongHeap {
    private var items = LongArray(KEPT)
    private var size = 0

    fun isEmpty(): Boolean {
        if (size == 0 && items.size > KEPT) items = LongArray(KEPT)
        return size == 0
    }

    fun add(item: Long) {
        if (size == items.size) items = items.copyOf(size + size / 2)
        var place = size++
        while (place > 0 && items[(place - 1) / 2] > item) {
            items[place] = items[(place - 1) / 2]
            place = (place - 1) / 2
        }
        items[place] = item
    }

    fun take(): Long {
        val least = items[0]
        val last = items[--size]
        var place = 0
        while (2 * place + 1 < size) {
            var child = 2 * place + 1
            if (child + 1 < size && items[child + 1] < items[child]) child++
            if (items[child] >= last) break
            items[place] = items[child]
            place = child
        }
        items[place] = last
        return least
    }
}
