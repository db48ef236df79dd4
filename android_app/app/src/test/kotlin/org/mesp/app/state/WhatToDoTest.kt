package org.mesp.app.state

import org.junit.Assert.assertEquals
import org.junit.Test

/** An error's text begins with what to do. */
class WhatToDoTest {
    @Test
    fun `the last sentence is what to do`() {
        assertEquals(
            "Start a new run with a lower learning rate." to "Step 2: the loss is NaN, and the norm of its gradient 0.5. The log is kept.",
            WhatToDo.of("Step 2: the loss is NaN, and the norm of its gradient 0.5. The log is kept. Start a new run with a lower learning rate.", "Else."),
        )
    }

    @Test
    fun `points in names and numbers end no sentence`() {
        val error = "data/v1.Final.jsonl, line 3: \"text\" must be a string, not 1.5. Correct or remove the row."
        assertEquals("Correct or remove the row.", WhatToDo.of(error, "Else.").first)
    }

    @Test
    fun `one sentence is what went wrong`() {
        assertEquals("Else." to "steps 0 must be at least 1.", WhatToDo.of("steps 0 must be at least 1.", "Else."))
        assertEquals("Else." to "", WhatToDo.of("", "Else."))
    }
}
