package org.mesp.core.engine

import java.nio.FloatBuffer

private const val GAMMA = -0x61c8864680b583ebL // 0x9E3779B97F4A7C15

/**
 * Fills a buffer with the signs from number [first] on, +1 for a bit that is set and -1 for one that is not, as runtime/engine/random_signs.py:
 * sign n is bit n % 64 of word n / 64, and word w is SplitMix64's output number w + 1 from the state [seed] (Steele et al., 2014).
 */
fun fillWithSigns(buffer: FloatBuffer, seed: Long, first: Long) {
    var word = -1L
    var bits = 0L
    for (index in 0 until buffer.capacity()) {
        val number = first + index
        if (number ushr 6 != word) {
            word = number ushr 6
            bits = randomWord(seed, word)
        }
        buffer.put(index, if ((bits ushr (number and 63).toInt()) and 1L == 1L) 1f else -1f)
    }
}

/** SplitMix64's word of this number. */
internal fun randomWord(seed: Long, number: Long): Long {
    val state = seed + (number + 1) * GAMMA
    var mixed = (state xor (state ushr 30)) * -0x40a7b892e31b1a47L // 0xBF58476D1CE4E5B9
    mixed = (mixed xor (mixed ushr 27)) * -0x6b2fb644ecceee15L // 0x94D049BB133111EB
    return mixed xor (mixed ushr 31)
}
