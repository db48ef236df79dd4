package org.mesp.core.data

import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.security.MessageDigest
import org.mesp.core.UsageException

/** The target of a token that nothing is to be predicted for, as in Hugging Face. */
const val MASKED = -100

/** A sequence without padding: [n] token ids, and what each should predict, [MASKED] where nothing is. */
class Example(val inputIds: IntArray, val targets: IntArray) {
    /** Its length n. */
    val tokens: Int get() = inputIds.size

    /** How many of its targets are not masked. */
    val predictions: Int = targets.count { it != MASKED }
}

/** The examples of a file, at least one, in the file's order. [cutRows] lost [cutTokens] tokens; [maskedRows] had no target and were left out. */
class Dataset(val examples: List<Example>, val cutRows: Int, val cutTokens: Int, val maskedRows: Int) {
    /** SHA-256, in hex, of each example's n, input ids and targets, as little-endian int32: the Python runtime's. */
    val fingerprint: String by lazy {
        val digest = MessageDigest.getInstance("SHA-256")
        for (example in examples) {
            for (values in listOf(intArrayOf(example.tokens), example.inputIds, example.targets)) {
                val bytes = ByteBuffer.allocate(4 * values.size).order(ByteOrder.LITTLE_ENDIAN)
                bytes.asIntBuffer().put(values)
                digest.update(bytes.array())
            }
        }
        digest.digest().toHexString()
    }

    /**
     * The examples from position [start] on, without end. Position p is in epoch p / examples. Shuffled, an epoch has an order of its own:
     * the positions 0 to n - 1 sorted by the SHA-256, in hex, of the UTF-8 text "SEED EPOCH POSITION".
     */
    fun order(start: Long, shuffle: Boolean, seed: Long): Sequence<Example> = sequence {
        var skip = (start % examples.size).toInt()
        var epoch = start / examples.size
        while (true) {
            val indices = if (shuffle) shuffled(examples.size, "$seed $epoch") else examples.indices.toList()
            for (index in indices.drop(skip)) yield(examples[index])
            skip = 0
            epoch++
        }
    }
}

/**
 * Reads the training data, and held-out data if there is any, to the same examples as the Python runtime: runtime/data/dataset.py tells how.
 *
 * @param tokens T, the longest sequence of the bundle
 * @param vocabulary of the model; ids must be below
 * @param tokenizerFolder the bundle's tokenizer; rows of token ids do without
 * @param packing join rows of text
 * @param evalPath held-out data of its own
 * @param evalSplit or this fraction of the data
 * @param seed of the choice of held-out rows
 * @param columns what the rows call the keys of their kind, of both files
 * @throws UsageException a file or row that cannot be used, by its line, or a part in which nothing is left to predict
 */
fun loadData(
    path: File,
    tokens: Int,
    vocabulary: Int,
    tokenizerFolder: File,
    packing: Boolean = true,
    evalPath: File? = null,
    evalSplit: Double? = null,
    seed: Long = 0,
    columns: String? = null,
): Pair<Dataset, Dataset?> {
    if (evalSplit != null && evalPath != null) {
        throw UsageException("Held-out data is a file or a part of the data: give eval_data or eval_split, not both.")
    }
    if (evalSplit != null && !(evalSplit > 0 && evalSplit < 1)) {
        throw UsageException("eval_split $evalSplit must be a fraction above 0 and below 1.")
    }
    val label = Labeller(tokenizerFolder, vocabulary)
    val file = read(path, label, columns)
    if (evalSplit == null) {
        val heldOut = evalPath?.let { dataset(read(it, label, columns), tokens, packing, it.path) }
        return Pair(dataset(file, tokens, packing, path.path), heldOut)
    }
    val (rest, part) = split(file, evalSplit, seed, path)
    return Pair(
        dataset(rest, tokens, packing, "What eval_split $evalSplit leaves of $path"),
        dataset(part, tokens, packing, "What eval_split $evalSplit holds out of $path"),
    )
}

/** The labelled rows of a file, at least one, all of one kind. */
private class Labels(val kind: Kind, val rows: List<Labelled>)

private fun read(path: File, label: Labeller, columns: String?): Labels {
    var kind: Kind? = null
    val rows = ArrayList<Labelled>()
    forEachRow(path, columns) { row ->
        kind = row.kind
        rows += label(row)
    }
    return Labels(kind ?: throw UsageException("$path has no rows. $EXPECTED."), rows)
}

/** What is trained on, and what is held out: a text file's end, or the first rows in shuffled order. Each part keeps the file's order. */
private fun split(file: Labels, fraction: Double, seed: Long, path: File): Pair<Labels, Labels> {
    val whole = file.kind == Kind.FILE
    val total = if (whole) file.rows[0].ids.size else file.rows.size
    val held = (total * fraction + 0.5).toInt()
    if (held == 0 || held == total) {
        throw UsageException(
            "eval_split $fraction holds out $held of the $total ${if (whole) "tokens" else "rows"} of $path, but both parts need one. " +
                "Choose another fraction, or give eval_data.",
        )
    }
    if (whole) {
        val row = file.rows[0]
        val cut = total - held
        return Pair(Labels(file.kind, listOf(row.slice(0, cut))), Labels(file.kind, listOf(row.slice(cut, total))))
    }
    val chosen = shuffled(total, "$seed split").take(held).toSet()
    val (part, rest) = file.rows.withIndex().partition { it.index in chosen }
    return Pair(Labels(file.kind, rest.map { it.value }), Labels(file.kind, part.map { it.value }))
}

private fun dataset(file: Labels, tokens: Int, packing: Boolean, name: String): Dataset {
    val joined = file.kind == Kind.FILE || (file.kind == Kind.TEXT && packing)
    val rows = if (joined) windows(file.rows, tokens) else file.rows
    val over = rows.map { maxOf(0, it.ids.size - (tokens + 1)) }
    val cut = rows.map { row ->
        val targets = (row.ids.size - 1).coerceIn(0, tokens)
        Example(row.ids.copyOf(targets), IntArray(targets) { row.labels[it + 1] })
    }
    val examples = cut.filter { it.predictions > 0 }
    if (examples.isEmpty()) {
        throw UsageException(
            "$name has no token to predict: every row is shorter than 2 tokens, masked throughout, or cut at ${tokens + 1} tokens " +
                "before its first target. Correct the rows, or export for longer sequences.",
        )
    }
    return Dataset(examples, over.count { it > 0 }, over.sum(), cut.size - examples.size)
}

/** The rows joined and cut into windows of [tokens] targets: a window begins at the last token of the one before. */
private fun windows(rows: List<Labelled>, tokens: Int): List<Labelled> {
    val size = rows.sumOf { it.ids.size }
    val joined = Labelled(IntArray(size), IntArray(size))
    var place = 0
    for (row in rows) {
        row.ids.copyInto(joined.ids, place)
        row.labels.copyInto(joined.labels, place)
        place += row.ids.size
    }
    return (0 until size - 1 step tokens).map { joined.slice(it, minOf(it + tokens + 1, size)) }
}

private fun shuffled(count: Int, key: String): List<Int> {
    val digest = MessageDigest.getInstance("SHA-256")
    val hashes = List(count) { digest.digest("$key $it".toByteArray()).toHexString() }
    return hashes.indices.sortedBy { hashes[it] }
}
