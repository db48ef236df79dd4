package org.mesp.core

import java.io.File
import kotlin.system.exitProcess
import kotlinx.serialization.SerializationException
import kotlinx.serialization.json.buildJsonObject
import kotlinx.serialization.json.put

/**
 * A run outside of the app, for a virtual machine on a desktop: `MainKt BUNDLE OUTPUT SETTINGS.json [--resume]`. Prints a line a step, and
 * ends with 0 for a run that is done, 1 for one that failed, 2 for what cannot be used.
 */
fun main(arguments: Array<String>) {
    // The library's Java code has a thread that is no daemon, so this process ends only if it is told to.
    exitProcess(run(arguments))
}

private fun run(arguments: Array<String>): Int {
    val (paths, options) = arguments.partition { !it.startsWith("--") }
    if (paths.size != 3 || options.any { it != "--resume" }) {
        System.err.println("Usage: MainKt BUNDLE OUTPUT SETTINGS.json [--resume]")
        return 2
    }
    val (bundle, output, settings) = paths.map(::File)
    val environment =
        buildJsonObject {
            put("system", "${System.getProperty("os.name")} ${System.getProperty("os.version")}")
            put("machine", System.getProperty("os.arch"))
            put("java", System.getProperty("java.version"))
        }
    val listener =
        object : Listener {
            override fun stepped(step: Step) = println("step ${step.step} loss ${step.loss} seconds ${step.seconds}")

            override fun evaluated(evaluation: Evaluation) = println("evaluation ${evaluation.step} loss ${evaluation.loss}")
        }
    return try {
        val chosen = JSON.decodeFromString<TrainSettings>(settings.readText())
        val report = train(bundle, output, chosen, environment, listener, resume = "--resume" in options)
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
