package org.mesp.core

/** The target of a token that nothing is to be predicted for, as in Hugging Face. */
const val MASKED = -100

/** A sequence without padding: [n] token ids, and what each should predict, [MASKED] where nothing is. */
class Example(val inputIds: IntArray, val targets: IntArray) {
    /** Its length n. */
    val tokens: Int get() = inputIds.size

    /** How many of its targets are not masked. */
    val predictions: Int = targets.count { it != MASKED }
}

/** The examples of a file, at least one, in the file's order, and what was left out of it. */
class Dataset(val examples: List<Example>, val cutRows: Int, val cutTokens: Int, val maskedRows: Int)
