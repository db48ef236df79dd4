package org.mesp.app.state

import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Test

/** The form, in and out of JSON. */
class FormTest {
    @Test
    fun `a form survives its JSON`() {
        val form = Form("b", "d", mapOf(Field.STEPS to "5", Field.RATE to "0,001"), "sgd", "cosine", onlyWhileCharging = true, findThreads = true)
        assertEquals(form, Form.fromJson(form.toJson()))
        assertEquals(Form(), Form.fromJson("{\"bundle\": 3"))
        assertEquals("0.001", form.settings().getValue("lr").toString())
        assertEquals("true", form.settings().getValue("find_threads").toString())
        assertFalse("warmup" in form.settings())
    }
}
