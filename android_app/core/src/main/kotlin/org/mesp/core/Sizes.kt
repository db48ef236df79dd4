package org.mesp.core

/** A sequence of [tokens] of which at most [head] are targets: the head runs on those rows alone. */
data class Size(val tokens: Int, val head: Int) {
    /** What follows a schedule's name. */
    val name: String get() = if (head == tokens) "$tokens" else "$tokens.$head"
}

private val SMALLEST_FIRST = compareBy<Size>({ it.tokens }, { it.head })

/** Every length with every number of rows that is not above it; there are programs of the head for the shorter lengths anyway. */
fun sizes(lengths: List<Int>, headRows: List<Int>): List<Size> {
    val heads = (lengths + headRows).distinct().sorted()
    return lengths.distinct().sorted().flatMap { tokens -> heads.filter { it <= tokens }.map { Size(tokens, it) } }
}

/** The shortest sequence that holds the tokens, and of those the one with the fewest rows that hold the targets. */
fun List<Size>.smallest(tokens: Int, targets: Int): Size = filter { it.tokens >= tokens && it.head >= targets }.minWith(SMALLEST_FIRST)

/** The sizes that these examples need of those that there are. */
fun List<Size>.used(examples: List<Example>): List<Size> =
    examples.map { smallest(it.tokens, it.predictions) }.distinct().sortedWith(SMALLEST_FIRST)

/** The schedules of a bundle that a run uses, and therefore allocates for. */
fun scheduleNames(optimizer: String, used: List<Size>, evaluates: Boolean, accumulates: Boolean, clips: Boolean): List<String> {
    val names = if (evaluates) used.map { "evaluate.${it.name}" } else emptyList()
    if (!accumulates && !clips) return names + used.map { "train.$optimizer.${it.name}" }
    val kinds = if (accumulates) listOf("gradients", "accumulate") else listOf("gradients")
    return names + kinds.flatMap { kind -> used.map { "$kind.${it.name}" } } + "gradient_norm" + "update.$optimizer"
}
