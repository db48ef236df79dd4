package org.mesp.core.training

import java.util.Locale
import org.mesp.core.UsageException
import org.mesp.core.memory.SystemMemory

// Whether a run fits into the memory that there is, before it begins; runtime/training/fit.py has the same. What is planned is what is surely taken:
// the library's workspace comes on top.

/**
 * What to say of a run's memory before it begins; nothing where there is enough.
 *
 * @param planned the parts of what it takes, in bytes
 * @param weightsBytes of the mapped weights
 * @throws UsageException it takes more than there is in all
 */
internal fun memoryWarnings(planned: Map<String, Long>, weightsBytes: Long, there: SystemMemory): List<String> {
    val taken = planned.values.sum()
    val takes = "The run takes at least ${megabytes(taken)} of memory"
    if (taken > there.totalBytes) throw UsageException("$takes, and there are ${megabytes(there.totalBytes)} in all. ${howToTakeLess(planned)}")
    if (taken > there.availableBytes) {
        return listOf("$takes, and ${megabytes(there.availableBytes)} are free: it may be ended for that. ${howToTakeLess(planned)}")
    }
    val left = there.availableBytes - taken
    if (weightsBytes <= left) return emptyList()
    return listOf(
        "The weights have ${megabytes(weightsBytes)}, and ${megabytes(left)} stay free beside the run: a step reads some of them from the storage again, " +
            "and takes longer. End other programs, or export a smaller model.",
    )
}

/** The settings and the export's options that would save memory, with how much where that is known. */
private fun howToTakeLess(planned: Map<String, Long>): String {
    fun part(vararg names: String) = names.sumOf { planned[it] ?: 0 }
    val savings =
        listOf(
            "optimizer sgd" to part("adamw.m", "adamw.v"),
            "no momentum" to part("momentum.velocity"),
            "grad_accumulation 1 and no clip_norm" to part("gradients"),
            "an export with --offload inputs" to part("block_inputs"),
        )
    val known = savings.filter { it.second > 0 }.map { (how, bytes) -> "$how (${megabytes(bytes)})" }
    return "To save: ${(known + "an export with a smaller --seq-len, --rank or --layers").joinToString("; ")}."
}

/** As runtime/report/words.py writes it. */
private fun megabytes(bytes: Long) =
    if (bytes == 0L || bytes >= 100_000) String.format(Locale.ROOT, "%,.1f MB", bytes / 1e6) else String.format(Locale.ROOT, "%.1f kB", bytes / 1e3)
