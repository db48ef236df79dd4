package org.mesp.core.training

import kotlinx.serialization.json.Json
import kotlinx.serialization.json.jsonObject
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.assertThrows
import org.mesp.core.UsageException

class RunIdentityTest {
    private fun run(settings: String) =
        Json.parseToJsonElement("""{"settings": {$settings}, "bundle": {"sha256": {}}, "data": 1, "eval_data": null}""").jsonObject

    @Test
    fun `a number is the same in the spelling of either runtime`() =
        checkSame(run(""""lr": 2e-05, "warmup": 3, "optimizer": "sgd""""), run(""""lr": 2.0E-5, "warmup": 3.0, "optimizer": "sgd""""))

    @Test
    fun `other values are named`() {
        val error =
            assertThrows<UsageException> {
                checkSame(run(""""lr": 2e-05, "steps": 5, "optimizer": "sgd""""), run(""""lr": 2.1e-05, "steps": null, "optimizer": "adamw""""))
            }
        val found = "lr was 2e-05 and is now 2.1e-05; steps was 5 and is now null; optimizer was \"sgd\" and is now \"adamw\""
        assertEquals("This is not the run that was interrupted: $found. Resume with what it was started with, or start another run.", error.message)
    }
}
