package org.mesp.core.training

import java.io.Closeable
import java.io.File
import java.io.IOException
import kotlinx.serialization.json.Json
import kotlinx.serialization.json.JsonElement
import kotlinx.serialization.json.JsonObject
import kotlinx.serialization.json.JsonPrimitive
import kotlinx.serialization.json.encodeToJsonElement
import org.mesp.core.MespException
import org.mesp.core.data.Dataset
import org.mesp.core.data.Example
import org.mesp.core.data.spread
import org.mesp.core.engine.ADAPTER
import org.mesp.core.engine.Bundle
import org.mesp.core.engine.WEIGHTS
import org.mesp.core.engine.plannedBytes
import org.mesp.core.folderThatAppearsWhole
import org.mesp.core.memory.Sample
import org.mesp.core.memory.Sampler
import org.mesp.core.memory.SystemMemory
import org.mesp.core.memory.Thinning
import org.mesp.core.memory.majorFaults
import org.mesp.core.memory.rounded
import org.mesp.core.reason
import org.mesp.core.report.EVALUATIONS
import org.mesp.core.report.Evaluation
import org.mesp.core.report.FINISHED
import org.mesp.core.report.MEMORY
import org.mesp.core.report.REPORT_JSON
import org.mesp.core.report.STEPS
import org.mesp.core.report.Step
import org.mesp.core.report.outcome
import org.mesp.core.report.lastLine
import org.mesp.core.report.surroundings
import org.mesp.core.writeJson

private const val BEST = "best"

/**
 * The loop of a run: evaluate if it is time, stop if there is a reason, take a step, write a checkpoint if it is time. Its whole state is the
 * session's tensors and a [Position]. So a run that is resumed does the same as one that was never interrupted.
 */
internal class TrainingLoop(
    private val bundle: Bundle,
    private val settings: TrainSettings,
    private val data: Dataset,
    heldOut: Dataset?,
    private val environment: JsonObject,
    private val sampler: Sampler,
    private val listener: Listener,
    private val control: Control,
    there: SystemMemory?,
    scratch: File,
) : Closeable {
    private val manifest = bundle.manifest
    private val heldOut = heldOut?.examples.orEmpty().spread(settings.evalSequences)
    private val steps = settings.stepsOf(data.examples.size)
    private val stepper: Stepper
    private val trials: List<Trial>
    private val threads: Int
    private val warnings: List<String>

    /** What the run is known to take, for run.json. */
    val plannedBytes: Map<String, Long>
    private var scaling: Scaling
    private val thinning = Thinning()
    private var position = Position()
    private var secondsBefore = 0.0 // of memory.jsonl, when the run is resumed
    private lateinit var folder: RunWriter

    init {
        val examples = data.examples.asSequence() + this.heldOut
        val used = manifest.sizes.used(examples)
        val optimizer = settings.makeOptimizer(steps)
        plannedBytes = plannedBytes(manifest, schedulesOf(settings, optimizer, used, this.heldOut.isNotEmpty()))
        warnings = if (there == null) emptyList() else memoryWarnings(plannedBytes, File(bundle.path, WEIGHTS).length(), there)
        warnings.forEach(listener::warned)
        // What the library keeps of the trials is the run's own: idle was measured before.
        trials = if (settings.findThreads) sampler.restWhile { tryThreads(bundle, settings, data, control, scratch) } else emptyList()
        val fastest = trials.minByOrNull(Trial::seconds)?.threads
        fastest?.let { listener.triedThreads(trials, it) }
        threads = fastest ?: settings.threads ?: defaultThreads()
        stepper = Stepper(bundle, settings, threads, optimizer, used, this.heldOut.isNotEmpty(), sampler::observe, ::stop, scratch)
        scaling = loadAdapter()
    }

    private val state get() = stepper.session.state

    private fun stop() = sampler.restWhile(control::stop)

    private fun loadAdapter(): Scaling {
        val adapter = state.getValue(manifest.lora.state)
        settings.adapter?.let { return readPeft(File(it), manifest.lora, adapter, if (settings.allowOtherBase) null else manifest.model.origin) }
        readAdapter(File(bundle.path, ADAPTER), manifest.lora, adapter)
        return Scaling(manifest.lora.alpha)
    }

    /** Goes on from the folder's last checkpoint, if it has one, to the report, which it returns. */
    fun run(folder: RunWriter): JsonObject {
        this.folder = folder
        restore()
        stepper.scale = scaling.at(manifest.lora.rank)
        listener.begin(position.step, steps, data)
        try {
            val status = loop()
            checkpoint()
            if (status in FINISHED) writeAdapter()
            sampler.finish()
            logMemory { thinning.step(position.step, it) + thinning.rest() }
            return report(status)
        } catch (error: Exception) {
            reportFailure(error)
            throw error
        }
    }

    /** A full storage may not take the report either; what is told is the first error. */
    private fun reportFailure(error: Exception) {
        try {
            report("failed", mapOf("reason" to JsonPrimitive(error.message ?: error.toString())))
        } catch (second: IOException) {
            error.addSuppressed(second)
        }
    }

    private fun report(status: String, more: Map<String, JsonPrimitive> = emptyMap()): JsonObject {
        val best = if (settings.evalEvery != null) position.bestStep else null
        val lines = outcome(status, folder.path, best)
        val report = JsonObject(lines + more + surroundings(bundle, data, sampler, environment) + beforehand())
        writeJson(File(folder.path, REPORT_JSON), report)
        return report
    }

    /** What was found out before the run began. */
    private fun beforehand(): Map<String, JsonElement> {
        val found = mutableMapOf<String, JsonElement>("threads" to JsonPrimitive(threads))
        if (trials.isNotEmpty()) found["threads_tried"] = Json.encodeToJsonElement(trials)
        if (warnings.isNotEmpty()) found["warnings"] = Json.encodeToJsonElement(warnings)
        return found
    }

    /** Takes over the last checkpoint, if there is one, and cuts the logs to it. */
    private fun restore() {
        checkpoints(folder.checkpoints).values.lastOrNull()?.let {
            val (restoredScaling, restored) = readCheckpoint(it, manifest, state)
            scaling = restoredScaling
            position = restored
        }
        folder.openLogs(position.logBytes)
        secondsBefore = lastLine(File(folder.path, MEMORY), Sample.serializer())?.seconds ?: 0.0
        File(folder.path, REPORT_JSON).delete() // of the run that was interrupted
    }

    /** Goes on until the run is over, and returns its status. */
    private fun loop(): String {
        val batches = batches()
        try {
            while (true) {
                if (evaluationIsDue()) evaluate()
                if (position.step == steps) return "done"
                if (settings.patience != null && position.worse >= settings.patience) return "stopped_early"
                step(batches.next())
                val due = settings.checkpointEvery > 0 && position.step % settings.checkpointEvery == 0
                if (control.checkpoint() || due) checkpoint()
            }
        } catch (_: Stopped) {
            return "interrupted"
        }
    }

    /** The examples of each step, from the run's position on. A step may go over an epoch's end; only the last step may be a short one. */
    private fun batches(): Iterator<List<Example>> {
        val size = settings.gradAccumulation
        val done = position.step.toLong() * size
        val total = if (settings.steps == null) settings.epochs.toLong() * data.examples.size else steps.toLong() * size
        val order = data.order(done, settings.shuffle, settings.seed).take(Math.toIntExact(total - done))
        return order.chunked(size).iterator()
    }

    private fun step(examples: List<Example>) {
        val number = position.step + 1
        val faults = majorFaults()
        val began = System.nanoTime()
        val (loss, norm) = stepper.step(number, examples)
        if (!loss.isFinite() || !norm.isFinite()) throw diverged(number, loss, norm)
        val seconds = secondsSince(began) // of the step alone: reading the footprint exactly takes milliseconds
        val peak = sampler.endOfStep()
        val step = Step(number, loss, stepper.optimizer.lr.at(number), norm, examples.sumOf(Example::tokens), seconds, peak, majorFaults() - faults)
        logMemory { thinning.step(number, it) }
        folder.log(STEPS, Step.serializer(), step)
        position = position.copy(step = number)
        listener.stepped(step)
    }

    private fun diverged(number: Int, loss: Double, norm: Double): MespException {
        val alsoPossible = manifest.gradientNotFinite?.takeIf { loss.isFinite() }?.let { " $it" }.orEmpty()
        return MespException("Step $number: the loss is $loss, and the norm of its gradient $norm. ${howToGoOn(number - 1)}$alsoPossible")
    }

    /** What to do where the adapter after step [failed] is no good: a checkpoint of that step is not either. */
    private fun howToGoOn(failed: Int): String {
        val good = checkpoints(folder.checkpoints).filterKeys { it < failed }.values.lastOrNull()
        val where = good?.let { "The last good checkpoint is $it" } ?: "No checkpoint from before that is kept"
        val how = if (good != null) ", or from there, as its adapter" else ""
        return "$where, and the log until here. Start a new run with a lower learning rate, with clipping or with a warm-up$how."
    }

    /** Tells each phase's largest sample since the last call, and logs [some] of them. */
    private fun logMemory(some: (List<Sample>) -> List<Sample>) {
        val samples = sampler.phases().map { it.copy(seconds = rounded(secondsBefore + it.seconds, 4)) }
        for (sample in some(samples)) folder.log(MEMORY, Sample.serializer(), sample)
        listener.sampled(samples)
    }

    private fun evaluationIsDue(): Boolean {
        val step = position.step
        val due = step == 0 || step == steps || (settings.evalEvery != null && step % settings.evalEvery == 0)
        return heldOut.isNotEmpty() && due && position.evaluatedStep != step
    }

    private fun evaluate() {
        val step = position.step
        val began = System.nanoTime()
        val loss =
            stepper.evaluate(heldOut) { done ->
                sampler.endOfStep()
                logMemory { thinning.sequence(step, done, heldOut.size, it) }
                listener.evaluating(done, heldOut.size)
            }
        if (!loss.isFinite()) throw MespException("After step $step the held-out loss is $loss. ${howToGoOn(step)}")
        val evaluation = Evaluation(step, loss, secondsSince(began))
        folder.log(EVALUATIONS, Evaluation.serializer(), evaluation)
        position = position.copy(evaluatedStep = step)
        if (step > 0) {
            if (position.bestLoss.let { it == null || loss < it }) {
                position = position.copy(bestStep = step, bestLoss = loss, worse = 0)
                if (settings.evalEvery != null) writePeft(BEST)
            } else {
                position = position.copy(worse = position.worse + 1)
            }
        }
        listener.evaluated(evaluation)
    }

    private fun checkpoint() {
        if (position.step in checkpoints(folder.checkpoints)) return
        val written =
            goingOnLater {
                position = position.copy(logBytes = folder.logBytes())
                writeCheckpoint(folder.checkpoints, manifest, state, scaling, position)
            }
        prune(folder.checkpoints, settings.keepCheckpoints)
        listener.checkpointed(written)
    }

    /** Writes RUN/adapter: that of the best evaluation where there were evaluations in between, else the last. */
    private fun writeAdapter() {
        if (settings.evalEvery != null) readPeft(File(folder.path, BEST), manifest.lora, state.getValue(manifest.lora.state))
        writePeft("adapter")
    }

    private fun writePeft(name: String) =
        goingOnLater {
            folderThatAppearsWhole(File(folder.path, name)) {
                writePeft(it, manifest.lora, state.getValue(manifest.lora.state), scaling, manifest.model.origin)
            }
        }

    /** Adds to the message of a storage that is full how to go on. */
    private fun <T> goingOnLater(write: () -> T): T =
        try {
            write()
        } catch (error: IOException) {
            throw MespException("The storage did not take it: ${reason(error)}. $GO_ON", error)
        } catch (error: MespException) {
            throw MespException("${error.message} $GO_ON", error)
        }

    override fun close() = stepper.close()
}

internal fun secondsSince(nanoseconds: Long): Double = rounded((System.nanoTime() - nanoseconds) / 1e9, 6)
