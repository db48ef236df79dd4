package org.mesp.core.generation

import org.mesp.core.data.Tokenizer

/**
 * A text whose tokens come one after the other, as runtime/generation/decoding.py: no piece ends inside of a character, and special tokens are
 * left out. [add] returns what can be shown now, [finish] the rest.
 */
class StreamDecoder(private val tokenizer: Tokenizer) {
    private val hidden = tokenizer.hidden()
    private val characters = Characters()

    fun add(token: Int): String = if (token in hidden) "" else characters.add(tokenizer.spelling(token))

    fun finish(): String = characters.finish()
}

/**
 * UTF-8 to text as its bytes come. What can be no character is replaced, the longest beginning of one by one U+FFFD, as Unicode advises and
 * Python does; Java's own decoder is not Android's.
 */
private class Characters {
    private var point = 0
    private var missing = 0 // bytes of the character that has begun
    private var least = FIRST // what its next byte may be
    private var most = LAST

    fun add(bytes: ByteArray): String = buildString {
        for (byte in bytes) {
            val value = byte.toInt() and 0xff
            if (missing > 0 && value in least..most) goOn(value) else begin(value)
        }
    }

    fun finish(): String = if (missing > 0) REPLACEMENT.also { missing = 0 } else ""

    private fun StringBuilder.goOn(value: Int) {
        point = (point shl 6) or (value and 0x3f)
        least = FIRST
        most = LAST
        if (--missing == 0) appendCodePoint(point)
    }

    private fun StringBuilder.begin(value: Int) {
        append(finish())
        least = FIRST
        most = LAST
        when (value) {
            in 0..0x7f -> append(value.toChar())
            in 0xc2..0xdf -> expect(1, value and 0x1f)
            in 0xe0..0xef -> {
                expect(2, value and 0xf)
                if (value == 0xe0) least = 0xa0 // below are shorter spellings
                if (value == 0xed) most = 0x9f // above are surrogates
            }
            in 0xf0..0xf4 -> {
                expect(3, value and 0x7)
                if (value == 0xf0) least = 0x90
                if (value == 0xf4) most = 0x8f // above is no Unicode
            }
            else -> append(REPLACEMENT)
        }
    }

    private fun expect(bytes: Int, bits: Int) {
        missing = bytes
        point = bits
    }

    private companion object {
        const val FIRST = 0x80
        const val LAST = 0xbf
        const val REPLACEMENT = "\ufffd"
    }
}
