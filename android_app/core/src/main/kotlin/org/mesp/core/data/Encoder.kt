package org.mesp.core.data

import org.mesp.core.UsageException

/** Texts that are tokens of their own, and their ids. */
internal class Specials(private val ids: Map<String, Int>) {
    private val lengths: Map<Char, List<Int>> = // of those that begin with a character, the longest first
        ids.keys.groupBy { it[0] }.mapValues { (_, texts) -> texts.map(String::length).distinct().sortedDescending() }

    /** How many characters a text must have from a place on, to know whether a special token begins there. */
    val longest = ids.keys.maxOfOrNull(String::length) ?: 0

    fun id(text: String): Int = ids.getValue(text)

    /** The longest one that begins at this place, if one does. */
    fun at(text: CharSequence, place: Int): String? =
        lengths[text[place]]?.firstNotNullOfOrNull { length ->
            if (place + length > text.length) null else text.substring(place, place + length).takeIf(ids::containsKey)
        }
}

/** Turns a text into tokens as it comes, part by part: [begin], [add] each, then [finish]. One text after another. */
internal class Encoder(private val tokenizer: Tokenizer) {
    private val description = tokenizer.description
    private val space = description.space?.codePointAt(0) ?: SPACE
    private val splitter = Splitter(description.splits, ::word)
    private val held = StringBuilder() // given, but its end may be a special token's begin, or belong to the character that comes
    private var before = 0 // code points of the text before what is held
    private var points = IntArray(2 * PART) // of the text that the splitter has, normalized, and the place of each in the text
    private var places = IntArray(2 * PART)
    private var bytes = ByteArray(PART)
    private lateinit var receive: Receiver

    /** Begins a text, whatever became of the one before; [receive] is told its tokens, in their order. */
    fun begin(receive: Receiver) {
        this.receive = receive
        held.clear()
        splitter.clear()
        before = 0
    }

    /** @throws UsageException the vocabulary lacks a part of a character */
    fun add(text: String) {
        held.append(text)
        take(last = false)
    }

    /** @throws UsageException the vocabulary lacks a part of a character */
    fun finish() = take(last = true)

    private fun take(last: Boolean) {
        val known = if (last) held.length else held.length - maxOf(tokenizer.specials.longest - 1, 0)
        var done = 0
        var at = 0
        while (at < known) {
            val special = tokenizer.specials.at(held, at)
            if (special == null) {
                at++
                continue
            }
            ordinary(done, at, true)
            val length = special.codePointCount(0, special.length)
            receive(tokenizer.specials.id(special), before, before + length)
            before += length
            at += special.length
            done = at
        }
        if (!last) while (at > done && !(at < held.length && beginsAnew(at))) at--
        ordinary(done, maxOf(at, done), last)
        held.delete(0, maxOf(at, done))
    }

    /** Whether the characters before this place are not changed by those after it. */
    private fun beginsAnew(at: Int): Boolean = !held[at].isLowSurrogate() && !joinsBefore(Character.codePointAt(held, at))

    /** Takes in text without special tokens; if [last], a special token or the end comes after it. */
    private fun ordinary(start: Int, end: Int, last: Boolean) {
        if (end > start) {
            val text = held.substring(start, end)
            val given = if (description.nfc) composed(text) else asGiven(text)
            val had = splitter.waiting.length
            reserve(had + given.size)
            for (index in 0 until given.size) {
                points[had + index] = if (given.values[index] == SPACE) space else given.values[index]
                places[had + index] = before + given.places[index]
                splitter.waiting.append(tokenizer.classes.standIn(given.values[index]))
            }
            before += text.codePointCount(0, text.length)
        }
        val done = splitter.cut(last)
        if (done == 0) return
        points.copyInto(points, 0, done, splitter.waiting.length)
        places.copyInto(places, 0, done, splitter.waiting.length)
        splitter.waiting.delete(0, done)
    }

    private fun reserve(size: Int) {
        if (size <= points.size) return
        points = points.copyOf(size + size / 2)
        places = places.copyOf(size + size / 2)
    }

    private fun word(start: Int, end: Int) {
        var count = 0 // of the word's bytes before this token
        var point = start // which has the byte
        var pointEnd = utf8Length(points[start])
        val size = spell(start, end) // into bytes, which may be another array then
        tokenizer.merger.merge(bytes, size) { id ->
            while (pointEnd <= count) pointEnd += utf8Length(points[++point])
            val first = point
            count += tokenizer.merger.length(id)
            while (pointEnd < count) pointEnd += utf8Length(points[++point])
            token(id, first, point + 1)
        }
    }

    private fun token(id: Int, start: Int, end: Int) {
        var first = places[start]
        var last = places[end - 1] + 1
        if (description.trimOffsets) {
            first = minOf(first + (start until end).takeWhile { points[it] == SPACE }.size, last)
            last = maxOf(last - (end - 1 downTo start).takeWhile { points[it] == SPACE }.size, first)
        }
        receive(id, first, last)
    }

    /** Writes a word's bytes and returns how many: without the characters whose bytes the vocabulary lacks, which Hugging Face drops. */
    private fun spell(start: Int, end: Int): Int {
        if (bytes.size < 4 * (end - start)) bytes = ByteArray(4 * (end - start))
        var size = 0
        for (index in start until end) {
            val length = utf8(points[index], size)
            val lacking = if (tokenizer.bytes.size == 256 || description.fallback != null) 0 else (size until size + length).count { bytes[it] !in tokenizer.bytes }
            if (lacking in 1 until length) {
                val name = "U+%04X".format(points[index])
                throw UsageException("the tokenizer has no token for a part of the character $name. Remove it from the text.")
            }
            if (lacking == 0) size += length
        }
        return size
    }

    private fun utf8(point: Int, at: Int): Int {
        val length = utf8Length(point)
        if (length == 1) {
            bytes[at] = point.toByte()
            return 1
        }
        for (index in length - 1 downTo 1) bytes[at + index] = (0x80 or (point ushr 6 * (length - 1 - index) and 0x3f)).toByte()
        bytes[at] = ((0xf00 ushr length and 0xff) or (point ushr 6 * (length - 1))).toByte()
        return length
    }
}

private const val SPACE = ' '.code
private const val PART = 8192

private fun utf8Length(point: Int) = if (point < 0x80) 1 else if (point < 0x800) 2 else if (point < 0x10000) 3 else 4
