package org.mesp.core.training

import kotlin.math.PI
import kotlin.math.cos
import kotlin.math.max
import kotlin.math.min
import kotlin.math.pow

/**
 * The learning rate of each step, by transformers' schedules of the same names: with w warm-up steps and n steps in all, step s (from 0)
 * has [peak] times s / w before w, and then 1 (constant), (n - s) / (n - w) (linear) or (1 + cos(pi (s - w) / (n - w))) / 2 (cosine).
 */
data class LearningRate(val peak: Double, val shape: String = "constant", val steps: Int = 1, val warmup: Int = 0) {
    /** Of step [step], counted from 1. */
    fun at(step: Int): Double {
        val done = step - 1
        if (done < warmup) return peak * done / warmup
        val left = max(1, steps - warmup)
        return when (shape) {
            "linear" -> peak * max(0.0, (steps - done).toDouble() / left)
            "cosine" -> peak * max(0.0, 0.5 * (1.0 + cos(PI * (done - warmup) / left)))
            else -> peak
        }
    }
}

/** SGD, with momentum if it is not 0, or AdamW with the defaults of torch.optim.AdamW. The update itself is a program of the bundle. */
data class Optimizer(
    val name: String,
    val lr: LearningRate,
    val weightDecay: Double = 0.0,
    val momentum: Double = 0.0,
    val beta1: Double = 0.9,
    val beta2: Double = 0.999,
    val eps: Double = 1e-8,
) {
    /** What the bundle's schedules `train.PROGRAM.T` and `update.PROGRAM` call it. */
    val program: String get() = if (name == "sgd" && momentum != 0.0) "momentum" else name

    /** What the update of step [step] (from 1) is given; AdamW's bias corrections are worked out here, in double precision. */
    fun scalars(step: Int): Map<String, Double> {
        val rate = lr.at(step)
        if (name == "sgd") return mapOf("lr" to rate, "weight_decay" to weightDecay, "momentum" to momentum)
        return mapOf(
            "lr_weight_decay" to rate * weightDecay,
            "one_minus_beta1" to 1 - beta1,
            "one_minus_beta2" to 1 - beta2,
            "step_size" to rate / (1 - beta1.pow(step)),
            "rsqrt_correction2" to (1 - beta2.pow(step)).pow(-0.5),
            "eps" to eps,
        )
    }
}

/** What a gradient of this norm is multiplied with so that its norm is at most [clipNorm], as torch.nn.utils.clip_grad_norm_. */
fun clipScale(norm: Double, clipNorm: Double?): Double = if (clipNorm == null) 1.0 else min(1.0, clipNorm / (norm + 1e-6))
