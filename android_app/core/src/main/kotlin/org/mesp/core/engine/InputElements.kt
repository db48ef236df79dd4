package org.mesp.core.engine

/**
 * How many elements a schedule reads of each input. Of those that hold a sequence it is a prefix: a schedule of a shorter length reads less.
 *
 * @param inputs names of the tensors that are inputs
 */
internal fun inputElements(instructions: List<Instruction>, programs: Map<String, ProgramSpec>, inputs: Set<String>): Map<String, Int> {
    val elements = HashMap<String, Int>()

    fun read(body: List<Instruction>, last: Map<String, Int>) {
        for (instruction in body) {
            when (instruction) {
                is Call ->
                    for ((source, argument) in instruction.inputs.zip(programs.getValue(instruction.program).inputs)) {
                        if (source !is Reference || source.tensor !in inputs) continue
                        val end = source.first(last) + argument.spec.elements
                        elements[source.tensor] = maxOf(end, elements[source.tensor] ?: 0)
                    }
                is Draw -> elements[instruction.seed] = 1
                is For -> read(instruction.body, last + (instruction.variable to instruction.first + instruction.count - 1))
                is Phase -> read(instruction.body, last)
                is Let, is Store -> Unit
            }
        }
    }
    read(instructions, emptyMap())
    return elements
}

/** The first element of the part, for these values of the loops' variables. */
private fun Reference.first(variables: Map<String, Int>): Int =
    Math.toIntExact(offset + strides.entries.sumOf { (name, stride) -> stride * variables.getValue(name) })
