package org.mesp.core.data

import java.io.File
import org.mesp.core.UsageException

/** The tokens of a row, [n], and a label for each, [n]: the token itself where it is a target, else [MASKED]. Labels are not shifted. */
internal class Labelled(val ids: IntArray, val labels: IntArray) {
    fun slice(start: Int, end: Int) = Labelled(ids.copyOfRange(start, end), labels.copyOfRange(start, end))
}

/**
 * Turns rows into tokens and labels, as runtime/data/labels.py describes.
 *
 * @param folder the bundle's tokenizer; opened for the first row that needs it
 * @param vocabulary of the model; every id must be below
 */
internal class Labeller(private val folder: File, private val vocabulary: Int) {
    private var opened: Tokenizer? = null

    /**
     * The tokens and labels of a row.
     *
     * @throws UsageException by the row's place: no tokenizer, a chat template that is missing or cannot write the row, or a token that the
     *   model does not have
     */
    operator fun invoke(row: Row): Labelled {
        if (row is IdsRow) return asGiven(row)
        val labelled = try {
            tokenized(row, tokenizer())
        } catch (error: UsageException) {
            throw UsageException("${row.where}: ${error.message}", error)
        }
        check(row, "token id", labelled.ids.firstOrNull { it >= vocabulary })
        return labelled
    }

    private fun asGiven(row: IdsRow): Labelled {
        fun outside(id: Long) = id < 0 || id >= vocabulary
        check(row, "token id", row.ids.firstOrNull(::outside))
        check(row, "label", row.labels.firstOrNull { it != MASKED.toLong() && outside(it) })
        return Labelled(IntArray(row.ids.size) { row.ids[it].toInt() }, IntArray(row.labels.size) { row.labels[it].toInt() })
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
}

private fun tokenized(row: Row, tokenizer: Tokenizer): Labelled = when (row) {
    is TextRow -> {
        val ids = tokenizer.ids(row.text)
        from(1, if (row.kind == Kind.FILE) ids else closed(ids, tokenizer))
    }
    is CompletionRow -> {
        val prompt = tokenizer.ids(row.prompt)
        val ids = closed(tokenizer.ids(row.prompt + row.completion), tokenizer)
        from(prompt.zip(ids).takeWhile { (one, other) -> one == other }.size, ids)
    }
    is MessagesRow -> conversation(row.messages, tokenizer)
    is IdsRow -> error("its tokens are given")
}

private fun closed(ids: IntArray, tokenizer: Tokenizer): IntArray =
    if (tokenizer.end == null || ids.lastOrNull() == tokenizer.end) ids else ids + tokenizer.end

/** The targets are the tokens from position [start] on. */
private fun from(start: Int, ids: IntArray) = Labelled(ids, IntArray(ids.size) { if (it >= start) ids[it] else MASKED })

private fun conversation(messages: List<Message>, tokenizer: Tokenizer): Labelled {
    val template = tokenizer.chat
        ?: throw UsageException("the bundle's tokenizer has no chat template. Train on rows of prompt and completion instead.")
    val rendered = template.render(messages)
    val tokens = tokenizer.encode(rendered.text)
    val labels = IntArray(tokens.ids.size) { MASKED }
    val trained = messages.filter { it.role == "assistant" }.map { it.train }
    for ((turn, train) in rendered.turns.zip(trained)) {
        if (!train) continue
        for (place in if (template.marked == null) touching(tokens, turn) else between(tokens, turn)) labels[place] = tokens.ids[place]
    }
    return Labelled(tokens.ids, labels)
}

/** The tokens that have a character of the turn. An empty token, as there is where offsets leave spaces out, has a place all the same. */
private fun touching(tokens: Tokens, turn: Span): List<Int> =
    tokens.ids.indices.filter { tokens.starts[it] < turn.end && tokens.ends[it] > turn.start }

/** The tokens of a marked turn as transformers takes them: from the first one of its first character to the first one of its last. */
private fun between(tokens: Tokens, turn: Span): IntRange {
    fun at(point: Int) = tokens.ids.indices.indexOfFirst { point >= tokens.starts[it] && point < tokens.ends[it] }
    val first = at(turn.start)
    if (first < 0) return IntRange.EMPTY
    val last = at(turn.end - 1)
    return first..(if (last > 0) last else tokens.ids.size - 1)
}
