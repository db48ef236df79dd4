package org.mesp.core.engine

/** A sequence of [tokens] of which at most [head] are targets: the head runs on those rows alone. In order: the shortest first. */
data class Size(val tokens: Int, val head: Int) : Comparable<Size> {
    /** What follows a schedule's name. */
    val name: String get() = if (head == tokens) "$tokens" else "$tokens.$head"

    override fun compareTo(other: Size) = compareValuesBy(this, other, Size::tokens, Size::head)
}

/** Every length with every number of rows that is not above it. A shorter length's programs of the head serve as a number of rows too. */
fun sizes(lengths: List<Int>, headRows: List<Int>): List<Size> {
    val heads = (lengths + headRows).distinct().sorted()
    return lengths.distinct().sorted().flatMap { tokens -> heads.filter { it <= tokens }.map { Size(tokens, it) } }
}

/** The shortest sequence that holds the tokens, and of those with that length the one with the fewest rows that hold the targets. */
fun List<Size>.smallest(tokens: Int, targets: Int): Size = filter { it.tokens >= tokens && it.head >= targets }.min()

/** The schedules of a bundle that a run uses, and therefore allocates for. */
fun scheduleNames(optimizer: String, used: List<Size>, evaluates: Boolean, accumulates: Boolean, clips: Boolean): List<String> {
    val names = if (evaluates) used.map { "evaluate.${it.name}" } else emptyList()
    if (!accumulates && !clips) return names + used.map { "train.$optimizer.${it.name}" }
    val kinds = if (accumulates) listOf("gradients", "accumulate") else listOf("gradients")
    return names + kinds.flatMap { kind -> used.map { "$kind.${it.name}" } } + "gradient_norm" + "update.$optimizer"
}
