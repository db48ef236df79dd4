package org.mesp.app.service

import java.io.File
import kotlinx.serialization.KSerializer
import kotlinx.serialization.json.Json
import kotlinx.serialization.json.JsonNull
import kotlinx.serialization.json.JsonObjectBuilder
import kotlinx.serialization.json.JsonPrimitive
import kotlinx.serialization.json.doubleOrNull
import kotlinx.serialization.json.encodeToJsonElement
import kotlinx.serialization.json.jsonObject
import kotlinx.serialization.json.put
import org.mesp.app.phone.Logcat
import org.mesp.app.state.Evaluating
import org.mesp.app.state.Field
import org.mesp.app.state.RunState
import org.mesp.app.state.Status
import org.mesp.app.state.Store
import org.mesp.app.state.updateRun
import org.mesp.app.state.withEvaluation
import org.mesp.app.state.withStep
import org.mesp.app.storage.RunFolder
import org.mesp.core.data.Dataset
import org.mesp.core.memory.BETWEEN_STEPS
import org.mesp.core.memory.LOAD
import org.mesp.core.memory.Sample
import org.mesp.core.report.Evaluation
import org.mesp.core.report.Step
import org.mesp.core.training.Listener
import org.mesp.core.training.Trial

/** Passes a run's progress on, from the training thread to the screen's state and to logcat. */
class RunProgress(private val store: Store, private val name: String, private val folder: File) : Listener {
    private var samples = emptyList<Sample>()
    private var evaluationBegan = 0L
    private var evaluationTold = 0L

    override fun begin(first: Int, steps: Int, dataset: Dataset) {
        val log = RunFolder(folder)
        val before = if (first > 0) log.steps(first) else emptyList()
        val evaluations = if (first > 0) log.evaluations(first) else emptyList()
        val baseline = log.baselineBytes
        val every = log.evalEvery
        change {
            val status = if (it.status == Status.PREPARING) Status.TRAINING else it.status
            it.copy(status = status, total = steps, evalEvery = every, steps = before, evaluations = evaluations, baselineBytes = baseline)
        }
        Logcat.event("begin", name) {
            put("first", first)
            put("steps", steps)
            put("examples", dataset.examples.size)
            put("cut_rows", dataset.cutRows)
            put("masked_rows", dataset.maskedRows)
        }
    }

    override fun warned(warning: String) {
        change { it.copy(warnings = it.warnings + warning) }
        Logcat.event("warning", name) { put("text", warning) }
    }

    /** What was found is in the form from then on. */
    override fun triedThreads(trials: List<Trial>, chosen: Int) {
        store.update { it.copy(form = it.form.with(Field.THREADS, chosen.toString()).copy(findThreads = false)) }
        Logcat.event("threads", name) {
            put("threads", chosen)
            put("tried", JSON.encodeToJsonElement(trials))
        }
    }

    override fun sampled(samples: List<Sample>) {
        this.samples = samples
    }

    override fun stepped(step: Step) {
        // The samples before a step are its own; those before an evaluation are not shown.
        val trace = samples.filter { it.phase != BETWEEN_STEPS && it.phase != LOAD }
        change { it.copy(steps = it.steps.withStep(step), trace = trace) }
        Logcat.event("step", name) { putAll(Step.serializer(), step) }
    }

    override fun evaluating(done: Int, sequences: Int) {
        val now = System.nanoTime()
        if (done == 1) evaluationBegan = now
        val seconds = (now - evaluationBegan) / 1e9
        // When the first sequence began is not known.
        change { it.copy(evaluating = Evaluating(done, sequences, if (done > 1) seconds / (done - 1) else null)) }
        if (now - evaluationTold < TOLD_NANOSECONDS && done < sequences) return
        evaluationTold = now
        Logcat.event("evaluating", name) {
            put("done", done)
            put("sequences", sequences)
        }
    }

    override fun evaluated(evaluation: Evaluation) {
        change { it.copy(evaluations = it.evaluations.withEvaluation(evaluation), evaluating = null) }
        Logcat.event("evaluation", name) { putAll(Evaluation.serializer(), evaluation) }
    }

    override fun checkpointed(folder: File) {
        change { it.copy(checkpoint = folder.name.removePrefix("step-").toIntOrNull() ?: it.step) }
        Logcat.event("checkpoint", name) { put("folder", folder.path) }
    }

    private fun <T> JsonObjectBuilder.putAll(serializer: KSerializer<T>, value: T) {
        for ((key, field) in JSON.encodeToJsonElement(serializer, value).jsonObject) {
            // JSON has no word for it.
            val isNoNumber = (field as? JsonPrimitive)?.doubleOrNull?.isFinite() == false
            put(key, if (isNoNumber) JsonNull else field)
        }
    }

    private fun change(run: (RunState) -> RunState) = store.updateRun(name, run)

    private companion object {
        /** Between two lines of an evaluation: the phone's log is small. */
        const val TOLD_NANOSECONDS = 5_000_000_000L
        val JSON = Json { allowSpecialFloatingPointValues = true }
    }
}
