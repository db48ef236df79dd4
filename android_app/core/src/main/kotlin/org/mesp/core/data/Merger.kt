package org.mesp.core.data

private const val KEPT = 4096

/**
 * Byte-pair encoding: merges the parts of a word to tokens. Of all neighbours that are a merge, those of the lowest rank are merged first, and
 * of the same ones the leftmost: the order of the Hugging Face tokenizer. Parts wait in a heap, so a word of n bytes takes n log n steps, and
 * about 30 bytes of memory for each of its own.
 *
 * @param vocabulary the tokens and merges
 * @param fallback the ids of the 256 bytes, where a word's parts are at first its characters: those that are no tokens become bytes; null where
 *   the parts are bytes
 * @param whole whether a word that is a token is not merged
 */
internal class Merger(private val vocabulary: Vocabulary, private val fallback: IntArray? = null, private val whole: Boolean = false) {
    private var next = IntArray(KEPT)
    private var previous = IntArray(KEPT)
    private var pairs = IntArray(KEPT)
    private val heap = LongHeap()

    /** Bytes looked at, and parts taken from the heap, so far. */
    var work = 0L
        private set

    /** Bytes of a token. */
    fun length(id: Int): Int = if (fallback != null && vocabulary.length(id) == 0) 1 else vocabulary.length(id)

    /** Tells the ids of the first [size] bytes of a word. Without a fallback each byte must be a token. */
    fun merge(word: ByteArray, size: Int, receive: (Int) -> Unit) {
        val known = if (whole) find(word, 0, size) else NONE
        if (known != NONE) return receive(known)
        if (size > next.size) grow(size)
        divide(word, size)
        var start = 0
        while (start < size) {
            pair(word, start, size)
            start = next[start]
        }
        while (!heap.isEmpty()) {
            val least = heap.take()
            val place = least.toInt()
            work++
            if (pairs[place] == (least ushr 32).toInt()) mergeAt(word, place, size)
        }
        start = 0
        while (start < size) {
            val id = find(word, start, next[start])
            receive(if (id == NONE) fallback!![word[start].toInt() and 0xff] else id)
            start = next[start]
        }
        if (size > KEPT) grow(KEPT) // one long word should not keep its memory
    }

    /** Makes the first parts: bytes, or characters that are tokens and the bytes of others. */
    private fun divide(word: ByteArray, size: Int) {
        var start = 0
        var last = -1
        while (start < size) {
            val length = if (fallback == null) 1 else characterLength(word[start])
            val end = if (length > 1 && find(word, start, start + length) == NONE) start + 1 else start + length
            next[start] = end
            previous[start] = last
            last = start
            start = end
        }
    }

    private fun mergeAt(word: ByteArray, start: Int, size: Int) {
        val second = next[start]
        val third = next[second]
        pairs[second] = NONE
        next[start] = third
        if (third < size) previous[third] = start
        pair(word, start, size)
        if (previous[start] >= 0) pair(word, previous[start], size)
    }

    /** Notes the rank of the merge of a part with the one after it, if there is one. */
    private fun pair(word: ByteArray, start: Int, size: Int) {
        val second = next[start]
        val id = if (second >= size) NONE else find(word, start, next[second])
        val rank = if (id == NONE) NONE else vocabulary.rank(id, second - start)
        pairs[start] = rank
        if (rank != NONE) heap.add((rank.toLong() shl 32) or start.toLong())
    }

    private fun find(word: ByteArray, start: Int, end: Int): Int {
        if (end - start > vocabulary.longest) return NONE
        work += end - start
        return vocabulary.find(word, start, end)
    }

    private fun grow(size: Int) {
        next = IntArray(size)
        previous = IntArray(size)
        pairs = IntArray(size)
    }
}

/** Bytes of the UTF-8 character that begins with this one. */
private fun characterLength(first: Byte): Int = when {
    first >= 0 -> 1
    first < -32 -> 2
    first < -16 -> 3
    else -> 4
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
