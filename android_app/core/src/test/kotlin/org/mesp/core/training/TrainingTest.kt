package org.mesp.core.training

import java.io.File
import kotlinx.serialization.json.JsonObject
import kotlinx.serialization.json.int
import kotlinx.serialization.json.jsonArray
import kotlinx.serialization.json.jsonPrimitive
import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir
import org.mesp.core.Cases
import org.mesp.core.MespException
import org.mesp.core.UsageException
import org.mesp.core.data.Dataset
import org.mesp.core.describeMachine
import org.mesp.core.memory.SystemMemory
import org.mesp.core.report.EVALUATIONS
import org.mesp.core.report.Evaluation
import org.mesp.core.report.REPORT_JSON
import org.mesp.core.report.STEPS
import org.mesp.core.report.Step
import org.mesp.core.report.readJson
import org.mesp.core.readLines
import org.mesp.core.report.writeFailure

class TrainingTest {
    @TempDir lateinit var temporary: File

    private val run by lazy { File(temporary, "run") }

    private fun train(
        case: String,
        output: File = run,
        settings: TrainSettings = Cases.settings(case),
        listener: Listener = object : Listener {},
        control: Control = object : Control {},
        resume: Boolean = false,
        bundle: File = Cases.bundle(case),
    ) = train(bundle, output, settings, MACHINE, listener, control, resume)

    /** Stops before sequence number [at]. */
    private class StopAt(private val at: Int) : Control {
        private var asked = 0

        override fun stop() = ++asked > at
    }

    private fun adapter(run: File) = File(run, "adapter/$ADAPTER_WEIGHTS").readBytes()

    private fun losses(run: File) = readLines(File(run, STEPS), Step.serializer()).map { it.step to it.loss }

    private fun status(report: JsonObject) = report.getValue("status").jsonPrimitive.content

    private fun report(run: File) = readJson(File(run, REPORT_JSON))!!

    @Test
    fun `goes on where it was stopped, to the same adapter`() {
        val whole = File(temporary, "whole")
        train("several", whole)
        assertEquals("interrupted", status(train("several", control = StopAt(at = 20))))
        assertFalse(File(run, "adapter").exists())
        Cases.keep(run, "interrupted")
        assertEquals("done", status(train("several", resume = true)))
        assertArrayEquals(adapter(whole), adapter(run))
        assertEquals(losses(whole), losses(run))
    }

    @Test
    fun `a run whose process was killed is resumed from its last checkpoint`() {
        val whole = File(temporary, "whole")
        val settings = Cases.settings("llama-adamw").copy(checkpointEvery = 4)
        train("llama-adamw", whole, settings)
        val dies =
            object : Listener {
                override fun stepped(step: Step) {
                    if (step.step == 11) throw OutOfMemoryError("as if killed")
                }
            }
        assertThrows(OutOfMemoryError::class.java) { train("llama-adamw", run, settings, dies) }
        Cases.keep(run, "killed")
        assertEquals(setOf(4, 8), checkpoints(File(run, "checkpoints")).keys)
        train("llama-adamw", run, settings, resume = true)
        assertArrayEquals(adapter(whole), adapter(run))
        assertEquals(losses(whole), losses(run))
    }

    @Test
    fun `writes a checkpoint when it is asked to`() {
        var asked = 0
        val control =
            object : Control {
                override fun checkpoint() = ++asked == 3
            }
        val found = ArrayList<String>()
        val listener =
            object : Listener {
                override fun checkpointed(folder: File) {
                    found += folder.name
                }
            }
        train("llama-sgd", listener = listener, control = control)
        assertEquals(listOf("step-3", "step-20"), found)
    }

    @Test
    fun `other settings, data or bundles are refused when it resumes`() {
        train("llama-sgd", control = StopAt(at = 5))
        val settings = Cases.settings("llama-sgd")
        assertRefused("lr was 0.05 and is now 0.25") { train("llama-sgd", settings = settings.copy(lr = 0.25), resume = true) }
        val data = File(temporary, "other.jsonl").also { it.writeText("""{"input_ids": [1, 2, 3], "labels": [1, 2, 3]}""") }
        assertRefused("the data has other contents") { train("llama-sgd", settings = settings.copy(data = data.path), resume = true) }
        assertRefused("program.pte of the bundle has changed") { train("llama-sgd", resume = true, bundle = Cases.bundle("upper")) }
        assertRefused("There is no run to resume") { train("llama-sgd", File(temporary, "none"), resume = true) }
    }

    @Test
    fun `a place that is taken is refused, and nothing is changed`() {
        run.mkdirs()
        File(run, "notes.txt").writeText("mine")
        assertRefused("exists already. Choose another output") { train("llama-sgd") }
        assertEquals(listOf("notes.txt"), run.list()!!.toList())
    }

    @Test
    fun `a folder that a run is writing to is refused to another one`() {
        val meddles =
            object : Listener {
                override fun stepped(step: Step) {
                    if (step.step == 2) assertRefused("Another run is under way in $run") { train("llama-sgd", resume = true) }
                }
            }
        assertEquals("done", status(train("llama-sgd", listener = meddles)))
        assertFalse(File(run, ".lock").exists())
    }

    @Test
    fun `the fastest number of threads is found before the run, which is the same`() {
        val whole = File(temporary, "whole")
        train("llama-adamw", whole)
        val found = ArrayList<Pair<List<Trial>, Int>>()
        val listener =
            object : Listener {
                override fun triedThreads(trials: List<Trial>, chosen: Int) {
                    found += trials to chosen
                }
            }
        val report = train("llama-adamw", settings = Cases.settings("llama-adamw").copy(findThreads = true), listener = listener)
        val (trials, chosen) = found.single()
        assertEquals(threadsToTry(Runtime.getRuntime().availableProcessors(), defaultThreads()), trials.map(Trial::threads))
        assertEquals(trials.minByOrNull(Trial::seconds)!!.threads, chosen)
        assertEquals(chosen, report.getValue("threads").jsonPrimitive.int)
        assertEquals(trials.size, report.getValue("threads_tried").jsonArray.size)
        assertEquals(losses(whole), losses(run))
        assertArrayEquals(adapter(whole), adapter(run))
        Cases.keep(run, "threads")
    }

    @Test
    fun `memory that is short is told before the run, and in its report`() {
        val warned = ArrayList<String>()
        val listener =
            object : Listener {
                override fun warned(warning: String) {
                    warned += warning
                }

                override fun begin(first: Int, steps: Int, dataset: Dataset) = assertEquals(1, warned.size)
            }
        val short = SystemMemory(availableBytes = 1000, totalBytes = 1L shl 40)
        val report = train(Cases.bundle("llama-sgd"), run, Cases.settings("llama-sgd"), MACHINE, listener, there = short)
        assertEquals(warned, report.getValue("warnings").jsonArray.map { it.jsonPrimitive.content })
        Cases.keep(run, "short")
        val none = File(temporary, "none")
        assertRefused("of memory, and there are 1.0 kB in all") {
            train(Cases.bundle("llama-sgd"), none, Cases.settings("llama-sgd"), MACHINE, there = SystemMemory(1000, 1000))
        }
        assertFalse(none.exists())
    }

    @Test
    fun `a loss that is no longer finite ends the run, and the report says so`() {
        val wild = Cases.settings("qwen2-sgd").copy(lr = 1e30)
        val error = assertThrows(MespException::class.java) { train("qwen2-sgd", settings = wild) }
        assertTrue("lower learning rate" in error.message!!, error.message)
        assertEquals("failed", status(report(run)))
        assertEquals(error.message, report(run).getValue("reason").jsonPrimitive.content)
        assertTrue("memory" in report(run))
        Cases.keep(run, "diverged")
    }

    @Test
    fun `a held-out loss that is not finite ends the run, and is in no log`() {
        val wild = Cases.settings("llama-sgd").copy(lr = 1e20, steps = 1, evalSplit = 0.2)
        val error = assertThrows(MespException::class.java) { train("llama-sgd", settings = wild) }
        assertTrue(error.message!!.startsWith("After step 1 the held-out loss is NaN. No checkpoint"), error.message)
        assertEquals(error.message, report(run).getValue("reason").jsonPrimitive.content)
        assertEquals(listOf(0), readLines(File(run, EVALUATIONS), Evaluation.serializer()).map(Evaluation::step))
        Cases.keep(run, "diverged-held-out")
    }

    @Test
    fun `an error of any kind is in the report`() {
        val breaks =
            object : Listener {
                override fun stepped(step: Step) = error("nobody listens")
            }
        assertThrows(IllegalStateException::class.java) { train("llama-sgd", listener = breaks) }
        assertEquals("nobody listens", report(run).getValue("reason").jsonPrimitive.content)
        assertEquals(1, losses(run).size)
        Cases.keep(run, "broken")
    }

    @Test
    fun `what failed before there was a run is reported too`() {
        writeFailure(run, "no bundle", MACHINE)
        assertEquals("failed", status(report(run)))
        assertEquals("no bundle", report(run).getValue("reason").jsonPrimitive.content)
        Cases.keep(run, "refused")
    }

    @Test
    fun `a failure does not go over the report of a finished run`() {
        train("llama-sgd")
        val before = report(run)
        writeFailure(run, "it is taken", MACHINE)
        assertEquals(before, report(run))
    }

    @Test
    fun `an adapter of PEFT is where it starts from`() {
        val second = File(temporary, "second")
        train("llama-sgd")
        train("llama-sgd", second, Cases.settings("llama-sgd").copy(adapter = File(run, "adapter").path, steps = 2))
        assertTrue(losses(second).first().second < losses(run).first().second)
    }

    private fun assertRefused(message: String, action: () -> Unit) {
        val error = assertThrows(UsageException::class.java) { action() }
        assertTrue(message in error.message!!, "expected \"$message\" in: ${error.message}")
    }

    private companion object {
        val MACHINE = describeMachine()
    }
}
