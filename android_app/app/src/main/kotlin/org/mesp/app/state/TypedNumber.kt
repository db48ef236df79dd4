package org.mesp.app.state

import java.text.DecimalFormat
import java.text.DecimalFormatSymbols
import java.util.Locale

/**
 * Numbers as people type them: digits of any script, a decimal point or comma, "1e-4", thousands in groups. What could be two numbers, as "1,500"
 * where the comma parts thousands, is none.
 */
class TypedNumber(private val locale: Locale) {
    /** Null for what is no whole number. */
    fun whole(text: String): Int? {
        val plain = plain(text)
        val number = (if (GROUPS.matches(plain)) plain.filter { it !in SEPARATORS } else plain).toBigDecimalOrNull() ?: return null
        if (SEPARATORS.any { it in plain } && !GROUPS.matches(plain)) return null
        return try {
            number.intValueExact()
        } catch (_: ArithmeticException) { // a fraction, or too large
            null
        }
    }

    /** Null for what is no number, or could be two. */
    fun decimal(text: String): Double? {
        val plain = plain(text)
        val separators = plain.filter { it in SEPARATORS }
        if (separators.length > 1 || isOfThousands(plain, separators)) return null
        return plain.replace(',', '.').toBigDecimalOrNull()?.toDouble()?.takeIf(Double::isFinite)
    }

    private fun isOfThousands(plain: String, separator: String): Boolean {
        val symbols = DecimalFormatSymbols.getInstance(locale)
        return separator == plain(symbols.groupingSeparator.toString()) && GROUPS.matches(plain) && !plain.trimStart('-').startsWith('0')
    }

    /** A number for a field, by the locale's own digits and point. */
    fun text(number: Double): String = DecimalFormat("0.##########", DecimalFormatSymbols.getInstance(locale)).format(number)

    /** With ASCII's digits, point or comma, minus and e, and without spaces. */
    private fun plain(text: String): String = buildString {
        for (character in text) {
            when {
                character.isDigit() -> append(Character.digit(character, 10))
                character.isWhitespace() || character in INVISIBLE || character in APOSTROPHES -> Unit
                character == ARABIC_POINT -> append('.')
                character == ARABIC_THOUSANDS -> append(',')
                character in MINUSES -> append('-')
                else -> append(character)
            }
        }
    }

    private companion object {
        val GROUPS = Regex("-?[0-9]{1,3}([.,])[0-9]{3}(\\1[0-9]{3})*")
        const val SEPARATORS = ".,"
        const val ARABIC_POINT = '\u066B'
        const val ARABIC_THOUSANDS = '\u066C'
        const val APOSTROPHES = "'\u2019"
        const val MINUSES = "\u2212\u2013"

        /** Marks of the writing's direction, which some keyboards put before a minus. */
        const val INVISIBLE = "\u200E\u200F\u061C"
    }
}
