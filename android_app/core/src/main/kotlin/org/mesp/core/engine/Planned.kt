package org.mesp.core.engine

private const val BLOCK_INPUTS = "block_inputs"

/**
 * The parts of the memory that schedules are known to take before they run, in bytes; runtime/engine/planned.py has the same. What XNNPACK and
 * the library take comes on top, and what is kept in files is in none of them.
 *
 * @param schedules names of those that the session runs
 */
internal fun plannedBytes(manifest: Manifest, schedules: List<String>): Map<String, Long> {
    val chosen = schedules.map(manifest.schedules::getValue)
    val called = chosen.flatMap { it.instructions.walk() }.filterIsInstance<Call>().map(Call::program).toSet()
    val used = chosen.flatMap { it.instructions.tensors() }.toSet()
    val arena = chosen.maxOf { it.arena.nbytes.toLong() }
    val blockInputs = chosen.maxOf { it.arena.buffers[BLOCK_INPUTS]?.nbytes?.toLong() ?: 0 }
    val states = manifest.tensors.filter { (name, tensor) -> tensor.kind == "state" && name in used }.mapValues { (_, tensor) -> tensor.spec.bytes }
    val results = called.sumOf { manifest.programs.getValue(it).plannedBytes }
    return mapOf(BLOCK_INPUTS to blockInputs, "other_buffers" to arena - blockInputs) + states + ("program_results" to results)
}
