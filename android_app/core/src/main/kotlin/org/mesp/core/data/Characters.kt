package org.mesp.core.data

import java.text.Normalizer

/** Code points, and for each the place in the text of the code point that it was made from: [places], ascending. */
internal class PlacedPoints(val values: IntArray, val places: IntArray) {
    val size: Int get() = values.size
}

/** The text as it is. */
internal fun asGiven(text: String): PlacedPoints {
    val points = text.codePoints().toArray()
    return PlacedPoints(points, IntArray(points.size) { it })
}

/**
 * The text in normalization form C. A character and the marks that follow it are composed together; no other neighbours change each other.
 * Places are as the tokenizers library has them: a composed character has the place of the first one that it was made from.
 */
internal fun composed(text: String): PlacedPoints {
    if (Normalizer.isNormalized(text, Normalizer.Form.NFC)) return asGiven(text)
    val points = text.codePoints().toArray()
    val values = Ints()
    val places = Ints()
    var start = 0
    while (start < points.size) {
        val end = (start + 1 until points.size).firstOrNull { !joinsBefore(points[it]) } ?: points.size
        val given = points.copyOfRange(start, end)
        val normalized = Normalizer.normalize(String(given, 0, given.size), Normalizer.Form.NFC).codePoints().toArray()
        normalized.forEach(values::add)
        placesOf(normalized, given).forEach { places.add(start + it) }
        start = end
    }
    return PlacedPoints(values.toArray(), places.toArray())
}

/** From which of the [given] code points each of the [normalized] ones comes. */
private fun placesOf(normalized: IntArray, given: IntArray): List<Int> {
    if (normalized.size == given.size) return given.indices.toList()
    val same = normalized.indices.takeWhile { it < given.size && normalized[it] == given[it] }.size
    val more = given.size - normalized.size
    // Where they begin to differ, either the first one has taken up several given ones, or one given became several.
    return normalized.indices.map { if (it <= same) it else maxOf(it + more, same) }
}

/** A mark, or a vowel or final consonant of a Hangul syllable. */
internal fun joinsBefore(point: Int): Boolean = point in 0x1160..0x11FF || when (Character.getType(point).toByte()) {
    Character.NON_SPACING_MARK, Character.COMBINING_SPACING_MARK, Character.ENCLOSING_MARK -> true
    else -> false
}

/** Replaces characters beyond ASCII by ones that stand for their class, and that every engine of regular expressions knows. */
internal class CharacterClasses(description: TokenizerDescription) {
    private class Range(val first: Int, val last: Int, val standIn: Char)

    private val ranges = description.run {
        parse(letters, LETTER) + parse(numbers, NUMBER) + parse(digits, DIGIT) + parse(spaces, BLANK)
    }.sortedBy { it.first }
    private val firsts = IntArray(ranges.size) { ranges[it].first }
    private val ascii = CharArray(128) { find(it) }

    fun standIn(point: Int): Char = if (point < ascii.size) ascii[point] else find(point)

    private fun find(point: Int): Char {
        if (point in KEPT) return point.toChar()
        val place = firsts.binarySearch(point).let { if (it < 0) -it - 2 else it }
        val standIn = ranges.getOrNull(place)?.takeIf { point <= it.last }?.standIn ?: OTHER
        return if (point < 128 && standIn != BLANK) point.toChar() else standIn
    }

    /** Ranges of hexadecimal code points, such as "41-5a aa b5". */
    private fun parse(ranges: String, standIn: Char): List<Range> = ranges.split(' ').filter { it.isNotEmpty() }.map { range ->
        val ends = range.split('-').map { it.toInt(16) }
        Range(ends.first(), ends.last(), standIn)
    }

    private companion object {
        const val LETTER = 'ä'
        const val NUMBER = '²'
        const val DIGIT = '¤'
        const val BLANK = '\t'
        const val OTHER = '§'

        /** What expressions name themselves: the space, line ends, and the long s, which is an s where case is ignored. */
        val KEPT = setOf(' '.code, '\r'.code, '\n'.code, 'ſ'.code)
    }
}
