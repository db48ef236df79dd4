package org.mesp.core.training

import java.io.Closeable
import java.io.File
import kotlin.math.sqrt
import org.mesp.core.data.Example
import org.mesp.core.data.Inputs
import org.mesp.core.engine.Bundle
import org.mesp.core.engine.Session
import org.mesp.core.engine.Size
import org.mesp.core.engine.scheduleNames
import org.mesp.core.engine.smallest

private const val SEED_BITS = 42
private const val STEP_BITS = 16

/** The run was asked to stop; what was not finished is as if it had not begun. */
internal class Stopped : Exception()

/**
 * One optimizer step, and one evaluation, on a session: which schedules are run, with which inputs.
 *
 *     lean    one sequence a step and no clipping: train.OPTIMIZER.SIZE applies each layer's update as its gradient arrives
 *     kept    otherwise the gradients of all layers are kept: gradients.SIZE for the first sequence, accumulate.SIZE for the others,
 *             gradient_norm, and update.OPTIMIZER with the gradient scaled as clipping asks for
 *
 * The loss of a step is the mean over the targets of all of its sequences, and its gradient is that mean's.
 *
 * @param threads of the programs
 * @param used the sizes that the run's examples need
 * @param stop asked before every sequence; a lean step, once begun, is finished
 */
internal class Stepper(
    bundle: Bundle,
    private val settings: TrainSettings,
    threads: Int,
    val optimizer: Optimizer,
    private val used: List<Size>,
    evaluates: Boolean,
    observer: (String?) -> Unit,
    private val stop: () -> Boolean,
    scratch: File,
) : Closeable {
    val session = Session(bundle, schedulesOf(settings, optimizer, used, evaluates), threads, observer, scratch)
    var scale = 1.0
    private val inputs = used.associateWith(::Inputs)

    /**
     * Takes step [number] (from 1) and returns its loss and the norm of its gradient, before clipping. If one of them is not finite, the
     * adapter is to be thrown away: a lean step has changed it by then.
     */
    fun step(number: Int, examples: List<Example>): Pair<Double, Double> =
        if (settings.keepsGradients) keptStep(number, examples) else leanStep(number, examples.single())

    private fun leanStep(number: Int, example: Example): Pair<Double, Double> {
        val outputs = run("train.${optimizer.program}", example, example.predictions, optimizer.scalars(number) + noise(number, 0))
        return outputs.getValue("loss") to sqrt(outputs.getValue("gradient_square_sum"))
    }

    private fun keptStep(number: Int, examples: List<Example>): Pair<Double, Double> {
        val predictions = examples.sumOf(Example::predictions)
        var loss = 0.0
        for ((place, example) in examples.withIndex()) {
            loss += run(if (place == 0) "gradients" else "accumulate", example, predictions, noise(number, place)).getValue("loss")
        }
        val norm = sqrt(session.run("gradient_norm", emptyMap()).getValue("gradient_square_sum"))
        if ((loss + norm).isFinite()) {
            val scalars = optimizer.scalars(number) + ("gradient_scale" to clipScale(norm, settings.clipNorm))
            session.run("update.${optimizer.program}", scalars)
        }
        return loss to norm
    }

    /** The mean loss over the examples' targets. [afterEach] is told how many are done. */
    fun evaluate(examples: List<Example>, afterEach: (Int) -> Unit): Double {
        val predictions = examples.sumOf(Example::predictions)
        var loss = 0.0
        for ((done, example) in examples.withIndex()) {
            loss += run("evaluate", example, predictions).getValue("loss")
            afterEach(done + 1)
        }
        return loss
    }

    private fun run(schedule: String, example: Example, predictions: Int, scalars: Map<String, Number> = emptyMap()): Map<String, Double> {
        if (stop()) throw Stopped()
        val size = used.smallest(example.tokens, example.predictions)
        return session.run("$schedule.${size.name}", inputs.getValue(size).of(example, predictions) + scalars + ("lora_scale" to scale))
    }

    /** What a schedule draws its noise from, different for each sequence of a run. Methods with exact gradients do not read it. */
    private fun noise(step: Int, place: Int): Map<String, Number> =
        mapOf("noise_seed" to ((settings.seed shl SEED_BITS) + (step.toLong() shl STEP_BITS) + place and Long.MAX_VALUE))

    override fun close() = session.close()
}

/** Names of the schedules that a run uses. */
internal fun schedulesOf(settings: TrainSettings, optimizer: Optimizer, used: List<Size>, evaluates: Boolean): List<String> =
    scheduleNames(optimizer.program, used, evaluates, settings.gradAccumulation > 1, settings.clipNorm != null)

/** The sizes that these examples need of those that there are. */
fun List<Size>.used(examples: Sequence<Example>): List<Size> =
    examples.map { smallest(it.tokens, it.predictions) }.distinct().sorted().toList()
