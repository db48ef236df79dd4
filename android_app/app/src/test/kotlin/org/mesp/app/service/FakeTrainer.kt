package org.mesp.app.service

import java.io.File
import java.util.concurrent.Semaphore
import java.util.concurrent.TimeUnit
import kotlinx.serialization.encodeToString
import kotlinx.serialization.json.Json
import kotlinx.serialization.json.JsonObject
import kotlinx.serialization.json.buildJsonObject
import kotlinx.serialization.json.put
import org.mesp.app.storage.RunFolder
import org.mesp.core.UsageException
import org.mesp.core.data.Dataset
import org.mesp.core.data.Example
import org.mesp.core.memory.Sample
import org.mesp.core.report.Evaluation
import org.mesp.core.report.Step
import org.mesp.core.training.Control
import org.mesp.core.training.Listener
import org.mesp.core.training.TrainSettings

/** Trains nothing: takes a step when the test lets it, and otherwise behaves as core does to its caller. */
class FakeTrainer : Trainer {
    var failure: Throwable? = null
    var log = { step: Int -> Step(step, 4.0 - 0.1 * step, 2e-4, 0.5, 256, 2.0, BASELINE + 58_800_000) }
    var trace = { _: Int ->
        listOf(Sample(0.0, "forward 0", BASELINE + 50_000_000, 0), Sample(1.0, "backward 0", BASELINE + 58_800_000, 0))
    }
    var evaluations = emptyList<Evaluation>()

    @Volatile var started: Started? = null

    /** The step that is under way. */
    @Volatile var inStep = 0

    class Started(val bundle: File, val output: File, val settings: TrainSettings, val environment: JsonObject, val resume: Boolean)

    private val permits = Semaphore(0)

    fun letStep(count: Int = 1) = permits.release(count)

    override fun train(
        bundle: File,
        output: File,
        settings: TrainSettings,
        environment: JsonObject,
        listener: Listener,
        control: Control,
        resume: Boolean,
    ): JsonObject {
        started = Started(bundle, output, settings, environment, resume)
        failure?.let { throw it }
        if (resume && !File(output, "run.json").exists()) throw UsageException("There is no run to resume.")
        val steps = settings.steps ?: 3
        val first = if (resume) RunFolder(output).checkpoint ?: 0 else 0
        if (!resume) {
            val settings = """{"steps": $steps, "data": "${settings.data}"}"""
            write(output, "run.json", """{"settings": $settings, "baseline_footprint_bytes": $BASELINE}""")
        }
        listener.begin(first, steps, Dataset(List(9) { Example(intArrayOf(1, 2), intArrayOf(2, 3)) }, 0, 0, 0))
        evaluations.filter { it.step == 0 && first == 0 }.forEach(listener::evaluated)
        for (number in first + 1..steps) {
            if (control.stop()) return end(output, "interrupted", number - 1, listener)
            inStep = number
            check(permits.tryAcquire(30, TimeUnit.SECONDS)) { "the test lets no step be taken" }
            listener.sampled(trace(number))
            log(number).let {
                File(output, "steps.jsonl").appendText(Json.encodeToString(it) + "\n")
                listener.stepped(it)
            }
            evaluations.filter { it.step == number }.forEach(listener::evaluated)
            if (control.checkpoint()) checkpoint(output, number, listener)
        }
        return end(output, "done", steps, listener)
    }

    private fun end(output: File, status: String, step: Int, listener: Listener): JsonObject {
        checkpoint(output, step, listener)
        if (status == "done") ADAPTER.forEach { write(File(output, "adapter"), it, it) }
        val before = evaluations.find { it.step == 0 }?.loss
        val after = evaluations.findLast { it.step > 0 }?.loss?.takeIf { status == "done" }
        val report = buildJsonObject {
            put("status", status)
            put("steps", step)
            put("loss_first", if (step > 0) 3.9 else null)
            put("loss_last", if (step > 0) 4.0 - 0.1 * step else null)
            put("eval_loss_before", before)
            put("eval_loss_after", after)
            put("memory", MEMORY)
        }
        write(output, "report.json", report.toString())
        return report
    }

    private fun checkpoint(output: File, step: Int, listener: Listener) {
        val folder = File(output, "checkpoints/step-$step").apply { mkdirs() }
        listener.checkpointed(folder)
    }

    override fun writeFailure(output: File, reason: String, environment: JsonObject) =
        write(
            output,
            "report.json",
            buildJsonObject {
                    put("status", "failed")
                    put("reason", reason)
                }
                .toString(),
        )

    private fun write(folder: File, name: String, text: String) {
        folder.mkdirs()
        File(folder, name).writeText(text)
    }

    companion object {
        const val BASELINE = 474_497_024L
        val ADAPTER = listOf("adapter_config.json", "adapter_model.safetensors")

        private val MEMORY = buildJsonObject {
            put("baseline_footprint_bytes", BASELINE)
            put("baseline_is_stable", true)
            put("peak_footprint_bytes", BASELINE + 58_800_000)
            put("delta_footprint_bytes", 58_800_000)
            put("peak_phase", "backward 0")
            put("vm_hwm_bytes", BASELINE + 258_800_000)
            put("vm_hwm_is_of_the_run", true)
            put("samples", 2240)
            put("longest_gap_seconds", 0.012)
            put("longest_gap_phase", "between steps")
            put("major_faults", 0)
            put("dirty_file_and_swap_bytes", 0)
        }
    }
}
