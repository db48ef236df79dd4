package org.mesp.core

import java.io.File
import java.util.concurrent.CountDownLatch
import kotlin.system.exitProcess
import kotlinx.serialization.SerializationException
import kotlinx.serialization.json.JsonObject
import kotlinx.serialization.json.buildJsonObject
import kotlinx.serialization.json.put
import org.mesp.core.report.Evaluation
import org.mesp.core.report.Step
import org.mesp.core.training.Control
import org.mesp.core.training.Listener
import org.mesp.core.training.TrainSettings
import org.mesp.core.training.train

/**
 * A run outside of the app, on a desktop's virtual machine: `MainKt BUNDLE OUTPUT SETTINGS.json [--resume]`. Prints a line a step. The exit
 * status is 0 for a run that is done, 1 for one that failed, 2 for what cannot be used. SIGINT (Ctrl-C) and SIGTERM end the run with a
 * checkpoint, and the process with 128 plus the signal's number.
 */
fun main(arguments: Array<String>) {
    val interrupt = Interrupt()
    val status =
        try {
            run(arguments, interrupt)
        } finally {
            interrupt.runIsOver()
        }
    // The library's Java code has a thread that is no daemon, so this process ends only if it is told to.
    exitProcess(status)
}

/** Asks the run to stop when the virtual machine is told to end, and keeps it from its end until the run is over. */
private class Interrupt : Control {
    @Volatile private var asked = false
    private val over = CountDownLatch(1)

    init {
        val hook = Thread {
            asked = true
            // It waits for the run, not for the run's thread: that ends in exitProcess, which does not return while hooks run.
            over.await()
        }
        Runtime.getRuntime().addShutdownHook(hook)
    }

    override fun stop(): Boolean = asked

    override fun stopReading(): Boolean = asked

    fun runIsOver() = over.countDown()
}

private fun run(arguments: Array<String>, control: Control): Int {
    val (paths, options) = arguments.partition { !it.startsWith("--") }
    if (paths.size != 3 || options.any { it != "--resume" }) {
        System.err.println("Usage: MainKt BUNDLE OUTPUT SETTINGS.json [--resume]")
        return 2
    }
    val (bundle, output, settings) = paths.map(::File)
    val listener =
        object : Listener {
            override fun stepped(step: Step) = println("step ${step.step} loss ${step.loss} seconds ${step.seconds}")

            override fun evaluated(evaluation: Evaluation) = println("evaluation ${evaluation.step} loss ${evaluation.loss}")
        }
    return try {
        val chosen = JSON.decodeFromString<TrainSettings>(settings.readText())
        val report = train(bundle, output, chosen, describeMachine(), listener, control, resume = "--resume" in options)
        println(report)
        0
    } catch (error: MespException) {
        System.err.println(error.message)
        if (error is UsageException) 2 else 1
    } catch (error: SerializationException) {
        System.err.println("$settings are not settings: ${error.message}")
        2
    }
}

/** What report.json says of a desktop. */
internal fun describeMachine(): JsonObject =
    buildJsonObject {
        put("system", "${System.getProperty("os.name")} ${System.getProperty("os.version")}")
        put("machine", System.getProperty("os.arch"))
        put("java", System.getProperty("java.version"))
    }
