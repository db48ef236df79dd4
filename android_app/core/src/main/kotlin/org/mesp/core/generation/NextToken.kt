package org.mesp.core.generation

import java.nio.FloatBuffer
import kotlin.math.floor
import org.mesp.core.MespException
import org.mesp.core.engine.randomWord

/**
 * Chooses the token that comes next by the logits, as runtime/generation/sampling.py, bit for bit; what is fixed for that is written there.
 * Memory for a vocabulary of this size is kept from token to token.
 */
class NextToken(private val options: GenerateOptions, private val vocabulary: Int) {
    private val scores = FloatArray(vocabulary)
    private val weights = DoubleArray(if (options.temperature == 0.0) 0 else vocabulary)
    private val filtersByOrder = options.topK != 0 || options.topP < 1
    private val largest = Descending(if (filtersByOrder) vocabulary else 0)

    /**
     * The token that follows the first [count] of [ids], the prompt's among them.
     *
     * @param logits of the last position, [vocabulary] of them
     * @throws MespException logits that are not finite
     */
    fun choose(logits: FloatBuffer, ids: IntArray, count: Int = ids.size): Int {
        require(logits.limit() == vocabulary)
        penalize(logits, ids, count)
        var likeliest = 0
        for (id in 0 until vocabulary) {
            if (!scores[id].isFinite()) {
                throw MespException("The model's logits are not finite, so no token can be chosen. The adapter may have diverged.")
            }
            if (scores[id] > scores[likeliest]) likeliest = id
        }
        if (options.temperature == 0.0) return likeliest
        weigh(scores[likeliest].toDouble())
        return draw(count)
    }

    /** What each token's probability is proportional to after [choose], 0 where a filter takes it out. */
    internal fun weights(): DoubleArray = weights

    private fun penalize(logits: FloatBuffer, ids: IntArray, count: Int) {
        for (id in 0 until vocabulary) scores[id] = logits[id]
        if (options.repetitionPenalty == 1.0) return
        val factor = options.repetitionPenalty.toFloat()
        for (place in 0 until count) {
            val logit = logits[ids[place]]
            scores[ids[place]] = if (logit < 0) logit * factor else logit / factor
        }
    }

    private fun weigh(most: Double) {
        for (id in 0 until vocabulary) weights[id] = exp((scores[id].toDouble() - most) / options.temperature)
        if (filtersByOrder) filterByOrder()
        for (id in 0 until vocabulary) if (weights[id] < options.minP) weights[id] = 0.0
    }

    private fun filterByOrder() {
        largest.fill(scores)
        val count = if (options.topK == 0) vocabulary else minOf(options.topK, vocabulary)
        if (count < vocabulary) keepLargest(count)
        if (options.topP == 1.0) return
        val limit = options.topP * weights.sum()
        var before = 0.0 // the weights of the likelier ones
        var kept = 0
        while (kept < count && before < limit) before += weights[largest[kept++]]
        keepLargest(kept)
    }

    private fun keepLargest(count: Int) {
        val kept = DoubleArray(count) { weights[largest[it]] }
        weights.fill(0.0)
        for (place in 0 until count) weights[largest[place]] = kept[place]
    }

    private fun draw(position: Int): Int {
        val share = (randomWord(options.seed, position.toLong()) ushr 11) * TWO_TO_MINUS_53
        val aim = share * weights.sum()
        var sum = 0.0
        for (id in 0 until vocabulary) {
            sum += weights[id]
            if (sum > aim) return id
        }
        error("a share below 1 of a sum is below the sum")
    }
}

/** Ids by their scores, the largest first and of equal ones the lower id; sorted as far as they are asked for. */
internal class Descending(private val size: Int) {
    private val heap = LongArray(size) // the least first: what falls with the score, and the id below it
    private var left = 0
    private val order = IntArray(size)
    private var known = 0

    fun fill(scores: FloatArray) {
        for (id in 0 until size) heap[id] = (falling(scores[id]).toLong() shl 32) or id.toLong()
        left = size
        known = 0
        for (place in size / 2 - 1 downTo 0) sink(place)
    }

    /** The id at this place of the order. */
    operator fun get(place: Int): Int {
        while (known <= place) {
            order[known++] = heap[0].toInt()
            heap[0] = heap[--left]
            sink(0)
        }
        return order[place]
    }

    private fun sink(from: Int) {
        val moved = heap[from]
        var place = from
        while (true) {
            var child = 2 * place + 1
            if (child >= left) break
            if (child + 1 < left && heap[child + 1] < heap[child]) child++
            if (heap[child] >= moved) break
            heap[place] = heap[child]
            place = child
        }
        heap[place] = moved
    }

    /** An integer that falls when a finite number rises; the same for -0 and 0. */
    private fun falling(score: Float): Int {
        val bits = (score + 0f).toRawBits()
        return if (bits < 0) bits and Int.MAX_VALUE else bits.inv()
    }
}

private const val LOG2_E = 1.4426950408889634
private const val LN2_HIGH = 6.93147180369123816490e-01
private const val LN2_LOW = 1.90821492927058770002e-10
private const val LEAST = -700.0
private const val TWO_TO_MINUS_53 = 1.0 / (1L shl 53)
private val COEFFICIENTS = DoubleArray(14) { 1.0 / (1..13 - it).fold(1.0, Double::times) }

/** e^x for x <= 0, as runtime/generation/sampling.py: additions and products alone, in its order. */
internal fun exp(x: Double): Double {
    if (x < LEAST) return 0.0
    val k = floor(x * LOG2_E + 0.5)
    val r = (x - k * LN2_HIGH) - k * LN2_LOW
    var value = COEFFICIENTS[0]
    for (place in 1 until COEFFICIENTS.size) value = value * r + COEFFICIENTS[place]
    return Math.scalb(value, k.toInt())
}
