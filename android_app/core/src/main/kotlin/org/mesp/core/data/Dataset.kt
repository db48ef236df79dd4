package org.mesp.core.data

import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.security.MessageDigest
import java.time.LocalDateTime
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
            val indices = if (shuffle) shuffled(examples.size, "$seed $epoch") else null
            for (place in skip until examples.size) yield(examples[indices?.get(place) ?: place])
            skip = 0
            epoch++
        }
    }
}

/** At most so many of the examples, at equal distances from the first one on; all if [most] is null. */
fun List<Example>.spread(most: Int?): List<Example> =
    if (most == null || size <= most) this else List(most) { this[(it.toLong() * size / most).toInt()] }

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
 * @param now what a chat template takes for the present, if it writes the date
 * @param goOn called for each row and each part of a text; what it throws ends the reading
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
    now: LocalDateTime = LocalDateTime.now(),
    goOn: () -> Unit = {},
): Pair<Dataset, Dataset?> {
    if (evalSplit != null && evalPath != null) {
        throw UsageException("Held-out data is a file or a part of the data: give eval_data or eval_split, not both.")
    }
    if (evalSplit != null && !(evalSplit > 0 && evalSplit < 1)) {
        throw UsageException("eval_split $evalSplit must be a fraction above 0 and below 1.")
    }
    fun read(file: File) = read(file, Labeller(tokenizerFolder, vocabulary, now, goOn), columns)
    val file = read(path)
    if (evalSplit == null) {
        val heldOut = evalPath?.let { dataset(read(it), tokens, packing, it.path) }
        return Pair(dataset(file, tokens, packing, path.path), heldOut)
    }
    val (rest, part) = split(file, evalSplit, seed, path)
    return Pair(
        dataset(rest, tokens, packing, "What eval_split $evalSplit leaves of $path"),
        dataset(part, tokens, packing, "What eval_split $evalSplit holds out of $path"),
    )
}

/** The sequences of some of a file's labelled rows, all of one kind. */
private class Part(val kind: Kind, val sequences: List<IntRange>, val labelled: Labelled)

/** All rows of a file, at least one. */
private fun read(path: File, label: Labeller, columns: String?): Part {
    var kind: Kind? = null
    forEachRow(path, columns) { row ->
        kind = row.kind
        label.add(row)
    }
    val labelled = label.labelled
    return Part(kind ?: throw UsageException("$path has no rows. $EXPECTED."), Listed(labelled.sequences, labelled::places), labelled)
}

/** What is trained on, and what is held out: a text file's end, or the first rows in shuffled order. Each part keeps the file's order. */
private fun split(file: Part, fraction: Double, seed: Long, path: File): Pair<Part, Part> {
    val whole = file.kind == Kind.FILE
    val total = if (whole) file.sequences[0].length else file.labelled.rows
    val held = (total * fraction + 0.5).toInt()
    if (held == 0 || held == total) {
        throw UsageException(
            "eval_split $fraction holds out $held of the $total ${if (whole) "tokens" else "rows"} of $path, but both parts need one. " +
                "Choose another fraction, or give eval_data.",
        )
    }
    fun part(sequences: List<IntRange>) = Part(file.kind, sequences, file.labelled)
    if (whole) return Pair(part(listOf(0 until total - held)), part(listOf(total - held until total)))
    val chosen = BooleanArray(total)
    shuffled(total, "$seed split").take(held).forEach { chosen[it] = true }
    fun those(kept: Boolean): List<IntRange> {
        val found = Ints()
        for (row in chosen.indices) if (chosen[row] == kept) file.labelled.sequencesOf(row).forEach(found::add)
        return Listed(found.size) { file.sequences[found[it]] }
    }
    return Pair(part(those(false)), part(those(true)))
}

private fun dataset(file: Part, tokens: Int, packing: Boolean, name: String): Dataset {
    val joined = file.kind == Kind.FILE || (file.kind == Kind.TEXT && packing)
    val all = if (joined) windows(file, tokens) else sequences(file, tokens)
    val kept = Ints()
    for (index in all.indices) if (all[index].predictions > 0) kept.add(index)
    if (kept.size == 0) {
        throw UsageException(
            "$name has no token to predict: every row is shorter than 2 tokens, masked throughout, or cut at ${tokens + 1} tokens " +
                "before its first target. Correct the rows, or export for longer sequences.",
        )
    }
    fun over(sequence: IntRange) = if (joined) 0 else maxOf(0, sequence.length - (tokens + 1))
    val examples = if (kept.size == all.size) all else Listed(kept.size) { all[kept[it]] }
    return Dataset(examples, file.sequences.count { over(it) > 0 }, file.sequences.sumOf(::over), all.size - kept.size)
}

private val IntRange.length get() = last - first + 1

/** A list whose items are made when they are asked for, so that as many as a long text has take no memory. */
private class Listed<T>(override val size: Int, private val make: (Int) -> T) : AbstractList<T>(), RandomAccess {
    override fun get(index: Int): T = make(index)
}

/** Each sequence, cut at [tokens] targets. */
private fun sequences(file: Part, tokens: Int): List<Example> = Listed(file.sequences.size) { sequence ->
    val places = file.sequences[sequence]
    val targets = (places.length - 1).coerceIn(0, tokens)
    Example(IntArray(targets) { file.labelled.id(places.first + it) }, IntArray(targets) { file.labelled.label(places.first + it + 1) })
}

/** The sequences joined and cut into windows of [tokens] targets: a window begins at the last token of the one before. */
private fun windows(file: Part, tokens: Int): List<Example> {
    val starts = IntArray(file.sequences.size + 1) // of each sequence in the joined ones
    for (sequence in file.sequences.indices) starts[sequence + 1] = starts[sequence] + file.sequences[sequence].length
    val size = starts.last()
    return Listed(maxOf(0, size - 2 + tokens) / tokens) { window ->
        val begin = window * tokens
        val count = minOf(tokens, size - 1 - begin)
        var sequence = starts.binarySearch(begin).let { if (it < 0) -it - 2 else it }
        val places = IntArray(count + 1) { index ->
            while (starts[sequence + 1] <= begin + index) sequence++
            file.sequences[sequence].first + begin + index - starts[sequence]
        }
        Example(IntArray(count) { file.labelled.id(places[it]) }, IntArray(count) { file.labelled.label(places[it + 1]) })
    }
}

/** The numbers below [count] in the order of the SHA-256 of the key and each. */
private fun shuffled(count: Int, key: String): IntArray {
    val digest = MessageDigest.getInstance("SHA-256")
    fun hash(number: Int) = digest.digest("$key $number".toByteArray())
    val firsts = LongArray(count) { ByteBuffer.wrap(hash(it)).long xor Long.MIN_VALUE } // of each hash, in the order of unsigned numbers
    return (0 until count).sortedWith(compareBy<Int> { firsts[it] }.thenBy { hash(it).toHexString() }).toIntArray()
}
