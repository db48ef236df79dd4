package org.mesp.app.state

import org.mesp.core.report.Evaluation
import org.mesp.core.report.Step

// What is shown of a long run: at most MOST of its steps and evaluations, however many there are. The last ones are all there, and the first.

private const val MOST = 2000
private const val RECENT = 200

/** With one more; of two steps that lie next to each other, the one with the larger footprint stays, so that the peak does. */
fun List<Step>.withStep(step: Step): List<Step> = grown(step) { one, other -> if (other.peakFootprintBytes > one.peakFootprintBytes) other else one }

/** With one more; of two evaluations that lie next to each other, the better one stays, so that the best does. */
fun List<Evaluation>.withEvaluation(evaluation: Evaluation): List<Evaluation> = grown(evaluation) { one, other -> if (other.loss < one.loss) other else one }

private fun <T> List<T>.grown(item: T, choose: (T, T) -> T): List<T> {
    if (size < MOST) return this + item
    val old = subList(1, size - RECENT).chunked(2) { it.reduce(choose) }
    return buildList {
        add(this@grown[0])
        addAll(old)
        addAll(this@grown.subList(this@grown.size - RECENT, this@grown.size))
        add(item)
    }
}
