package org.mesp.core.training

import kotlin.math.ceil
import kotlinx.serialization.SerialName
import kotlinx.serialization.Serializable
import org.mesp.core.UsageException
import org.mesp.core.data.readColumns

/**
 * The choices of a run, with the names, defaults and limits of runtime/contract/settings.schema.json: those of `mesp train`.
 *
 * @param data training rows
 * @param evalData held-out rows; or [evalSplit], the fraction of [data] that is held out
 * @param map what the rows call the keys of their kind: "prompt=question,completion=answer"
 * @param adapter a PEFT adapter folder to start from, instead of the bundle's initial one
 * @param steps how many; null for [epochs] passes over the data
 * @param lr the learning rate after the warm-up; null for the optimizer's default
 * @param warmup steps, or below 1 a fraction of all steps
 * @param gradAccumulation sequences of one step; its loss is the mean over all of their targets
 * @param clipNorm the largest norm of a step's gradient; null for no limit
 * @param evalEvery steps between evaluations; null for the beginning and the end alone
 * @param evalSequences at most so many held-out sequences in each evaluation, spread over all of them; null for all
 * @param patience evaluations in a row without a better loss after which the run stops
 * @param checkpointEvery steps between checkpoints, 0 for none but the last
 * @param threads of the programs; null for as many as there are fast cores
 * @param findThreads try different numbers of threads before the run, and take the fastest
 */
@Serializable
data class TrainSettings(
    val data: String,
    @SerialName("eval_data") val evalData: String? = null,
    @SerialName("eval_split") val evalSplit: Double? = null,
    val map: String? = null,
    val adapter: String? = null,
    @SerialName("allow_other_base") val allowOtherBase: Boolean = false,
    val steps: Int? = null,
    val epochs: Int = 1,
    val optimizer: String = "adamw",
    val momentum: Double = 0.0,
    val lr: Double? = null,
    val schedule: String = "constant",
    val warmup: Double = 0.0,
    @SerialName("weight_decay") val weightDecay: Double = 0.0,
    @SerialName("grad_accumulation") val gradAccumulation: Int = 1,
    @SerialName("clip_norm") val clipNorm: Double? = null,
    @SerialName("eval_every") val evalEvery: Int? = null,
    @SerialName("eval_sequences") val evalSequences: Int? = null,
    val patience: Int? = null,
    @SerialName("checkpoint_every") val checkpointEvery: Int = 50,
    @SerialName("keep_checkpoints") val keepCheckpoints: Int = 2,
    val packing: Boolean = true,
    val shuffle: Boolean = true,
    val seed: Long = 0,
    val threads: Int? = null,
    @SerialName("find_threads") val findThreads: Boolean = false,
) {
    init {
        need(optimizer in OPTIMIZERS, "optimizer", optimizer, OPTIMIZERS.keys.joinToString(" or "))
        need(schedule in SCHEDULES, "schedule", schedule, SCHEDULES.joinToString(" or "))
        need(
            warmup in 0.0..<1.0 || (warmup >= 1 && warmup.isFinite() && warmup == ceil(warmup)),
            "warmup",
            warmup,
            "whole steps, or a fraction below 1",
        )
        needNumber("lr", lr, "a number of at least 0") { it >= 0 }
        needNumber("weight_decay", weightDecay, "a number of at least 0") { it >= 0 }
        needNumber("clip_norm", clipNorm, "a number above 0") { it > 0 }
        needNumber("momentum", momentum, "at least 0 and below 1") { it >= 0 && it < 1 }
        needNumber("eval_split", evalSplit, "between 0 and 1") { it > 0 && it < 1 }
        val counts =
            mapOf(
                "steps" to steps,
                "epochs" to epochs,
                "grad_accumulation" to gradAccumulation,
                "eval_every" to evalEvery,
                "eval_sequences" to evalSequences,
                "patience" to patience,
                "keep_checkpoints" to keepCheckpoints,
                "threads" to threads,
            )
        for ((name, value) in counts) need(value == null || value >= 1, name, value, "at least 1")
        need(checkpointEvery >= 0, "checkpoint_every", checkpointEvery, "at least 0, where 0 is none but the last")
        readColumns(map)
        if (momentum != 0.0 && optimizer != "sgd") refuse("momentum is sgd's; $optimizer has moments of its own.")
        if (evalData != null && evalSplit != null) {
            refuse("eval_data and eval_split are two ways to hold rows out: give one of them.")
        }
        if (evalEvery != null && evalData == null && evalSplit == null) {
            refuse("eval_every needs rows to evaluate on: give eval_data or eval_split.")
        }
        if (threads != null && findThreads) refuse("threads is a number, or found by find_threads: give one of them.")
        if (patience != null && evalEvery == null) refuse("patience counts evaluations: give eval_every too.")
    }

    /** A step needs every layer's gradient at once: several sequences add to it, or its norm is needed before the update. */
    val keepsGradients: Boolean get() = gradAccumulation > 1 || clipNorm != null

    /** Steps of the run on this many examples. */
    fun stepsOf(examples: Int): Int =
        steps ?: ((epochs.toLong() * examples + gradAccumulation - 1) / gradAccumulation).toInt()

    /** The optimizer of a run of this many steps. */
    fun makeOptimizer(steps: Int): Optimizer {
        val warmupSteps = if (warmup < 1) ceil(warmup * steps).toInt() else warmup.toInt()
        if (warmupSteps > steps) refuse("warmup $warmupSteps is longer than the run of $steps steps.")
        val rate = LearningRate(lr ?: OPTIMIZERS.getValue(optimizer), schedule, steps, warmupSteps)
        return Optimizer(optimizer, rate, weightDecay, momentum)
    }

    companion object {
        /** The optimizers, and the learning rate of each where none is chosen. */
        val OPTIMIZERS = mapOf("sgd" to 0.1, "adamw" to 2e-4)
        val SCHEDULES = listOf("constant", "linear", "cosine")

        /** Of an evaluation on a phone, where none is chosen: thousands of sequences would take longer than the training. */
        const val EVAL_SEQUENCES_ON_PHONE = 64

        private fun refuse(message: String): Nothing = throw UsageException(message)

        private fun need(holds: Boolean, name: String, value: Any?, expected: String) {
            if (!holds) refuse("$name $value must be $expected.")
        }

        private fun needNumber(name: String, value: Double?, expected: String, holds: (Double) -> Boolean) =
            need(value == null || (value.isFinite() && holds(value)), name, value, expected)
    }
}
