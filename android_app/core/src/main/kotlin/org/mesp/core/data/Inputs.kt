package org.mesp.core.data

import org.mesp.core.engine.Size

/** An example as a schedule of one size takes it, padded; the arrays are used again. */
internal class Inputs(private val size: Size) {
    private val inputIds = LongArray(size.tokens)
    private val targets = LongArray(size.head)
    private val tokenWeight = FloatArray(size.head)
    private val headPositions = LongArray(size.head)
    private val headPlaces = LongArray(size.tokens)
    private val all =
        mapOf<String, Any>(
            "input_ids" to inputIds,
            "targets" to targets,
            "token_weight" to tokenWeight,
            "head_positions" to headPositions,
            "head_places" to headPlaces,
        )

    /**
     * Fills them.
     *
     * @param predictions of all the examples of an optimizer step, whose mean loss is the step's
     * @return input_ids [tokens], padded with 0; targets [head], 0 where nothing is predicted; token_weight [head], 1 / predictions on targets;
     *     head_positions [head], where in the sequence each row of the head is; head_places [tokens], which row of the head each token is,
     *     or `head` for none
     */
    fun of(example: Example, predictions: Int): Map<String, Any> {
        inputIds.fill(0)
        targets.fill(0)
        tokenWeight.fill(0f)
        headPositions.fill(0)
        headPlaces.fill(size.head.toLong())
        var row = 0
        for (position in 0 until example.tokens) {
            inputIds[position] = example.inputIds[position].toLong()
            val target = example.targets[position]
            if (target == MASKED && size.head < size.tokens) continue
            headPositions[row] = position.toLong()
            headPlaces[position] = row.toLong()
            if (target != MASKED) {
                targets[row] = target.toLong()
                tokenWeight[row] = (1.0 / predictions).toFloat()
            }
            row++
        }
        return all
    }
}
