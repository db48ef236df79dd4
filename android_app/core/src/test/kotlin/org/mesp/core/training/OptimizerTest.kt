package org.mesp.core.training

import kotlin.math.sqrt
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.mesp.core.UsageException

class OptimizerTest {
    @Test
    fun `rates follow transformers' schedules`() {
        val at = { shape: String, step: Int -> LearningRate(peak = 1.0, shape = shape, steps = 10, warmup = 2).at(step) }
        assertEquals(listOf(0.0, 0.5, 1.0), (1..3).map { at("constant", it) })
        assertEquals(0.5, at("linear", 7), 1e-12)
        assertEquals(0.5, at("cosine", 7), 1e-12)
        assertEquals(0.5 * (1 + sqrt(0.5)), at("cosine", 5), 1e-12)
    }

    @Test
    fun `AdamW's bias corrections`() {
        val scalars = Optimizer("adamw", LearningRate(0.1)).scalars(2)
        assertEquals(0.1 / (1 - 0.81), scalars.getValue("step_size"), 1e-12)
        assertEquals(1 / sqrt(1 - 0.999 * 0.999), scalars.getValue("rsqrt_correction2"), 1e-9)
    }

    @Test
    fun `clips to the norm`() {
        assertEquals(1.0, clipScale(0.5, 1.0))
        assertEquals(0.5, clipScale(2.0, 1.0), 1e-6)
        assertEquals(1.0, clipScale(2.0, null))
    }

    @Test
    fun `a setting that no run can have is refused by its name`() {
        val wrong =
            listOf<Pair<String, () -> TrainSettings>>(
                "optimizer" to { TrainSettings("d", optimizer = "lion") },
                "schedule" to { TrainSettings("d", schedule = "step") },
                "warmup" to { TrainSettings("d", warmup = 1.5) },
                "warmup" to { TrainSettings("d", warmup = -3.0) },
                "lr" to { TrainSettings("d", lr = -1.0) },
                "clip_norm" to { TrainSettings("d", clipNorm = 0.0) },
                "steps" to { TrainSettings("d", steps = 0) },
                "momentum" to { TrainSettings("d", momentum = 0.9) },
                "eval_every" to { TrainSettings("d", evalEvery = 2) },
                "patience" to { TrainSettings("d", patience = 2) },
                "eval_split" to { TrainSettings("d", evalSplit = 1.0) },
            )
        for ((name, make) in wrong) {
            val error = assertThrows(UsageException::class.java) { make() }
            assertTrue(name in error.message!!, error.message)
        }
    }
}
