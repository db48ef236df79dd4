package org.mesp.app.state

import java.util.Locale
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNull
import org.junit.Test

/** What people type for a number. */
class TypedNumberTest {
    private val english = TypedNumber(Locale.US)
    private val german = TypedNumber(Locale.GERMANY)
    private val arabic = TypedNumber(Locale.forLanguageTag("ar-EG"))

    @Test
    fun `decimals of every locale`() {
        for (numbers in listOf(english, german, arabic)) {
            for (text in listOf("0.0002", "0,0002", "2e-4", "2E-4", " 2,0e\u22124 ", "٠٫٠٠٠٢", "०.०००२", "\u200E2e-4")) {
                assertEquals(text, 2e-4, numbers.decimal(text)!!, 0.0)
            }
        }
        assertEquals(0.001, english.decimal("0,001")!!, 0.0)
        assertEquals(1.5, german.decimal("1.5")!!, 0.0)
        assertEquals(1.125, english.decimal("1.125")!!, 0.0)
    }

    @Test
    fun `what could be two numbers is none`() {
        assertNull(english.decimal("1,500"))
        assertNull(german.decimal("1.500"))
        for (text in listOf("", "much", "1e", "--1", "1.2.3", "1,2.3", "NaN", "Infinity", "0x10", "1d", "1e999")) assertNull(text, english.decimal(text))
    }

    @Test
    fun `whole numbers, in groups or with an exponent`() {
        for (text in listOf("20000", "20,000", "20.000", "20 000", "20\u202F000", "20\u2019000", "2e4", "٢٠٬٠٠٠")) {
            assertEquals(text, 20_000, english.whole(text))
        }
        for (text in listOf("1.5", "0,5", "1e-4", "20,00", "99999999999", "ten", "")) assertNull(text, english.whole(text))
    }

    @Test
    fun `fields show the locale's own digits`() {
        assertEquals("0.0002", english.text(2e-4))
        assertEquals("0,1", german.text(0.1))
        assertEquals(0.1, arabic.decimal(arabic.text(0.1))!!, 0.0)
    }
}
