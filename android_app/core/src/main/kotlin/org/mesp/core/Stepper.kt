package org.mesp.core

import java.io.Closeable
import java.io.File
import kotlin.math.sqrt

// Of MeZO's two forward passes: Malladi et al., 2023, use this for all of their models.
private const val PERTURBATION = 1e-3
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
 * @param used the sizes that the run's examples need
 * @param stop asked before every sequence; a lean step, once begun, is finished
 */
internal class Stepper(
    bundle: Bundle,
    private val settings: TrainSettings,
    val optimizer: Optimizer,
    private val used: List<Size>,
    evaluates: Boolean,
    observer: (String?) -> Unit,
    private val stop: () -> Boolean,
    scratch: File,
) : Closeable {
    val session: Session
    var scale = 1.0
    private val inputs = used.associateWith(::Inputs)

    init {
        val names = scheduleNames(optimizer.program, used, evaluates, settings.gradAccumulation > 1, settings.clipNorm != null)
        session = Session(bundle, names, settings.threads ?: Runtime.getRuntime().availableProcessors(), observer, scratch)
    }

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

    /** The mean loss over the examples' targets. */
    fun evaluate(examples: List<Example>, afterEach: () -> Unit): Double {
        val predictions = examples.sumOf(Example::predictions)
        return examples.sumOf { example -> run("evaluate", example, predictions).getValue("loss").also { afterEach() } }
    }

    private fun run(schedule: String, example: Example, predictions: Int, scalars: Map<String, Number> = emptyMap()): Map<String, Double> {
        if (stop()) throw Stopped()
        val size = used.smallest(example.tokens, example.predictions)
        return session.run("$schedule.${size.name}", inputs.getValue(size).of(example, predictions) + scalars + ("lora_scale" to scale))
    }

    /** From what a schedule draws, different for each sequence of a run. Methods with exact gradients have no use for it. */
    private fun noise(step: Int, place: Int): Map<String, Number> =
        mapOf(
            "noise_seed" to ((settings.seed shl SEED_BITS) + (step.toLong() shl STEP_BITS) + place and Long.MAX_VALUE),
            "perturbation" to PERTURBATION,
        )

    override fun close() = session.close()
}

/** An example as a schedule of one size takes it, padded; the arrays are used again. */
internal class Inputs(private val size: Size) {
    private val inputIds = LongArray(size.tokens)
    private val targets = LongArray(size.head)
    private val tokenWeight = FloatArray(size.head)
    private val headPositions = LongArray(size.head)
    private val headPlaces = LongArray(size.tokens)
    private val all =
        mapOf<String, Any>(
            "input_ids" to inputIds,
            "targets" to targets,
            "token_weight" to tokenWeight,
            "head_positions" to headPositions,
            "head_places" to headPlaces,
        )

    /**
     * Fills them.
     *
     * @param predictions of all the examples of an optimizer step, whose mean loss is the step's
     * @return input_ids [tokens], padded with 0; targets [head], 0 where nothing is predicted; token_weight [head], 1 / predictions on targets;
     *     head_positions [head], where in the sequence each row of the head is; head_places [tokens], which row of the head each token is,
     *     or `head` for none
     */
    fun of(example: Example, predictions: Int): Map<String, Any> {
        inputIds.fill(0)
        targets.fill(0)
        tokenWeight.fill(0f)
        headPositions.fill(0)
        headPlaces.fill(size.head.toLong())
        var row = 0
        for (position in 0 until example.tokens) {
            inputIds[position] = example.inputIds[position].toLong()
            val target = example.targets[position]
            if (target == MASKED && size.head < size.tokens) continue
            headPositions[row] = position.toLong()
            headPlaces[position] = row.toLong()
            if (target != MASKED) {
                targets[row] = target.toLong()
                tokenWeight[row] = (1.0 / predictions).toFloat()
            }
            row++
        }
        return all
    }
}
