package org.mesp.core.data

import java.io.File
import java.time.LocalDateTime
import org.mesp.core.UsageException

/**
 * Rows, each of one sequence of tokens or of several, and a label for each token: the token itself where it is a target, else [MASKED].
 * Labels are not shifted.
 */
internal class Labelled {
    private val ids = Ints()
    private val trained = Bits()
    private var given: Ints? = null // labels, once one is neither the token nor masked: rows of ids may have such ones
    private val ends = Ints() // of sequences, in tokens
    private val rowEnds = Ints() // in sequences

    /** How many sequences are ended. */
    val sequences: Int get() = ends.size

    /** How many rows are ended. */
    val rows: Int get() = rowEnds.size

    fun id(place: Int): Int = ids[place]

    fun label(place: Int): Int = given?.get(place) ?: if (trained[place]) ids[place] else MASKED

    /** Where a sequence's tokens are. */
    fun places(sequence: Int): IntRange = (if (sequence == 0) 0 else ends[sequence - 1]) until ends[sequence]

    /** The sequences of a row. */
    fun sequencesOf(row: Int): IntRange = (if (row == 0) 0 else rowEnds[row - 1]) until rowEnds[row]

    /** Adds a token to the sequence that is under way. */
    fun add(id: Int, label: Int) {
        if (label != id && label != MASKED && given == null) given = Ints().also { for (place in 0 until ids.size) it.add(label(place)) }
        ids.add(id)
        trained.add(label == id)
        given?.add(label)
    }

    fun endSequence() = ends.add(ids.size)

    fun endRow() = rowEnds.add(ends.size)

    /** Tokens of the sequence that is under way. */
    val size: Int get() = ids.size - (if (sequences == 0) 0 else ends[sequences - 1])

    /** The last token of the sequence that is under way. */
    val last: Int? get() = if (size == 0) null else ids[ids.size - 1]
}

/**
 * Turns rows into tokens and labels, as runtime/data/labels.py describes.
 *
 * @param folder the bundle's tokenizer; opened for the first row that needs it
 * @param vocabulary of the model; every id must be below
 * @param now what a chat template takes for the present, if it writes the date
 * @param goOn called for each row and each part of a text
 */
internal class Labeller(private val folder: File, private val vocabulary: Int, private val now: LocalDateTime, private val goOn: () -> Unit) {
    /** The rows that were added. */
    val labelled = Labelled()
    private var opened: Tokenizer? = null

    /**
     * Adds a row.
     *
     * @throws UsageException by the row's place: no tokenizer, a chat template that is missing or cannot write the row, or a token that the
     *   model does not have
     */
    fun add(row: Row) {
        goOn()
        if (row is IdsRow) {
            asGiven(row)
        } else {
            var bad: Int? = null
            try {
                tokenized(row, tokenizer()) { id, target ->
                    if (id >= vocabulary && bad == null) bad = id
                    labelled.add(id, if (target) id else MASKED)
                }
            } catch (error: UsageException) {
                throw UsageException("${row.where}: ${error.message}", error)
            }
            check(row, "token id", bad)
        }
        labelled.endRow()
    }

    private fun asGiven(row: IdsRow) {
        fun outside(id: Long) = id < 0 || id >= vocabulary
        check(row, "token id", row.ids.firstOrNull(::outside))
        check(row, "label", row.labels.firstOrNull { it != MASKED.toLong() && outside(it) })
        for (place in row.ids.indices) labelled.add(row.ids[place].toInt(), row.labels[place].toInt())
        labelled.endSequence()
    }

    private fun check(row: Row, name: String, bad: Number?) {
        if (bad == null) return
        throw UsageException(
            "${row.where}: $name $bad is not in the model's vocabulary of $vocabulary. Tokenize with the tokenizer of the exported model.",
        )
    }

    private fun tokenizer(): Tokenizer = opened ?: run {
        if (!folder.isDirectory) {
            throw UsageException(
                "the row is text, but this bundle has no tokenizer. " +
                    "Train on {\"input_ids\", \"labels\"} rows, or export a checkpoint with its tokenizer.",
            )
        }
        openTokenizer(folder).also { opened = it }
    }

    private fun tokenized(row: Row, tokenizer: Tokenizer, add: (id: Int, target: Boolean) -> Unit) {
        when (row) {
            is TextRow -> {
                val parts: Parts = { receive -> row.parts { part -> receive(part).also { goOn() } } }
                tokenizer.allIds(parts) { add(it, labelled.size > 0) }
                if (row.kind != Kind.FILE) close(tokenizer) { add(it, labelled.size > 0) }
                labelled.endSequence()
            }
            is CompletionRow -> {
                val prompt = tokenizer.ids(row.prompt)
                var common = true // with the prompt alone
                val receive = { id: Int ->
                    common = common && labelled.size < prompt.size && prompt[labelled.size] == id
                    add(id, !common)
                }
                tokenizer.allIds({ inParts(row.prompt + row.completion, it) }, receive)
                close(tokenizer, receive)
                labelled.endSequence()
            }
            is MessagesRow -> for (rendered in chat(tokenizer).render(row.messages, now)) {
                conversation(rendered, tokenizer, add)
                labelled.endSequence()
            }
            is IdsRow -> error("its tokens are given")
        }
    }

    private fun close(tokenizer: Tokenizer, add: (Int) -> Unit) {
        if (tokenizer.end != null && labelled.last != tokenizer.end) add(tokenizer.end)
    }
}

private fun chat(tokenizer: Tokenizer): ChatTemplate = tokenizer.chat
    ?: throw UsageException("the bundle's tokenizer has no chat template. Train on rows of prompt and completion instead.")

private fun conversation(rendered: Rendered, tokenizer: Tokenizer, add: (id: Int, target: Boolean) -> Unit) {
    val tokens = tokenizer.encode(rendered.text)
    val targets = BooleanArray(tokens.ids.size)
    var from = 0
    for (turn in rendered.turns) {
        from = tokens.firstTouching(turn, from)
        for (place in if (chat(tokenizer).marked == null) touching(tokens, turn, from) else between(tokens, turn, from)) targets[place] = true
    }
    for (place in targets.indices) add(tokens.ids[place], targets[place])
}

// Tokens and turns both stand in the order of the text, so each turn is looked for from where the one before began.

/** The first token from place [from] on that ends within the turn or after it. */
private fun Tokens.firstTouching(turn: Span, from: Int): Int {
    var place = from
    while (place < ids.size && ends[place] <= turn.start) place++
    return place
}

/** The tokens that have a character of the turn. An empty token, as there is where offsets leave spaces out, has a place all the same. */
private fun touching(tokens: Tokens, turn: Span, from: Int): IntRange {
    var place = from
    while (place < tokens.ids.size && tokens.starts[place] < turn.end) place++
    return from until place
}

/** The tokens of a marked turn as transformers takes them: from the first one of its first character to the first one of its last. */
private fun between(tokens: Tokens, turn: Span, from: Int): IntRange {
    fun at(point: Int) = (from until tokens.ids.size).takeWhile { tokens.starts[it] <= point }.firstOrNull { point < tokens.ends[it] } ?: -1
    val first = at(turn.start)
    if (first < 0) return IntRange.EMPTY
    val last = at(turn.end - 1)
    return first..(if (last > 0) last else tokens.ids.size - 1)
}
