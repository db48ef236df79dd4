package org.mesp.core.training

import java.io.File
import java.io.IOException
import kotlinx.serialization.Serializable
import org.mesp.core.data.Dataset
import org.mesp.core.engine.Bundle

private val CPU = Regex("cpu\\d+")
private const val STEPS = 2 // the first one of a session also makes views and takes pages

/** The seconds of a step with so many threads. */
@Serializable data class Trial(val threads: Int, val seconds: Double)

/**
 * With how many threads programs run where nobody says: one for each core that has at least half the capacity of the best, which is the kernel's
 * own measure of how much a core gets done. Slower ones hold the others up, as the threads share each product evenly. Frequencies would not
 * tell: a little core at 2.0 GHz gets a third as much done as a big one at 2.4. Where the kernel does not say, half of the cores, which is
 * ExecuTorch's own choice: on most phones half are little.
 */
internal fun defaultThreads(cpus: File = File("/sys/devices/system/cpu"), cores: Int = Runtime.getRuntime().availableProcessors()): Int {
    val capacities = cpus.listFiles { file -> CPU.matches(file.name) }.orEmpty().mapNotNull(::capacity)
    val best = capacities.maxOrNull() ?: return maxOf(1, cores / 2)
    return minOf(cores, capacities.count { 2 * it >= best })
}

private fun capacity(cpu: File): Int? =
    try {
        File(cpu, "cpu_capacity").readText().trim().toIntOrNull()
    } catch (_: IOException) { // not on every kernel, nor for every app
        null
    }

/** Powers of two, the default, and one a core. */
internal fun threadsToTry(cores: Int, default: Int): List<Int> =
    (generateSequence(1) { it * 2 }.takeWhile { it <= cores } + default + cores).distinct().sorted().toList()

/**
 * Takes steps with different numbers of threads, in sessions of their own: the library cannot change the number for programs that are loaded.
 * The adapter is zeros, and thrown away. A run that is told to stop, or to wait, does so in between.
 *
 * @return in the order of the threads; the seconds are those of the faster step
 */
internal fun tryThreads(bundle: Bundle, settings: TrainSettings, data: Dataset, control: Control, scratch: File): List<Trial> {
    val examples = data.examples.take(settings.gradAccumulation)
    val used = bundle.manifest.sizes.used(examples.asSequence())
    val trials = ArrayList<Trial>()
    for (threads in threadsToTry(Runtime.getRuntime().availableProcessors(), defaultThreads())) {
        if (control.stop()) break
        val optimizer = settings.makeOptimizer(settings.stepsOf(data.examples.size))
        Stepper(bundle, settings, threads, optimizer, used, evaluates = false, {}, { false }, scratch).use { stepper ->
            trials += Trial(threads, List(STEPS) { secondsOf { stepper.step(1, examples) } }.min())
        }
        Runtime.getRuntime().gc() // gives the session's memory back
    }
    return trials
}

private fun secondsOf(step: () -> Unit): Double {
    val began = System.nanoTime()
    step()
    return secondsSince(began)
}
