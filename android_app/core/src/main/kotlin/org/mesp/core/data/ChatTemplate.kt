package org.mesp.core.data

import kotlinx.serialization.Serializable
import org.mesp.core.UsageException

/** Where something is in a text, in code points: from [start] to before [end]. */
data class Span(val start: Int, val end: Int)

/** A conversation as the chat template writes it, and where in the text the assistant's turns are, which are trained on. */
class Rendered(val text: String, val turns: List<Span>)

/**
 * How the messages of a role are written.
 *
 * @param first what is before the content if the message is the conversation's first, null if the template refuses it there
 * @param next the same for later messages
 * @param after what is after the content
 * @param trim whether blanks around the content are left out
 */
@Serializable
class Turn(val first: String?, val next: String?, val after: String, val trim: Boolean)

/**
 * A chat template as a table. The original needs Python; `mesp export` has made the table of it, and checked that both write the same.
 *
 * @param unsupported why it could not be resolved, if it could not
 * @param turns by role
 * @param prompt what asks the model for the assistant's turn
 * @param skip code points before an assistant's content that it does not write
 * @param marked code points after it that are trained on, by the template's own marks; null for all, but the blanks at the end
 */
@Serializable
class ChatTemplate(
    val unsupported: String? = null,
    val turns: Map<String, Turn> = emptyMap(),
    val prompt: String = "",
    val skip: Int = 0,
    val marked: Int? = null,
) {
    /**
     * Writes a conversation as the original template does.
     *
     * @throws UsageException it cannot: the reason that export found, or a role where the template writes it in a way of its own
     */
    fun render(messages: List<Message>): Rendered {
        if (unsupported != null) {
            throw UsageException(
                "this bundle's chat template cannot be used on a phone: $unsupported. " +
                    "Train on rows of prompt and completion, or with mesp train on a computer.",
            )
        }
        val text = Text()
        val turns = ArrayList<Span>()
        messages.forEachIndexed { index, message ->
            val turn = this.turns[message.role] ?: refuse(message.role, index)
            val start = text.points + skip
            text.add((if (index == 0) turn.first else turn.next) ?: refuse(message.role, index))
            text.add(if (turn.trim) message.content.trim(::isPythonSpace) else message.content)
            val end = text.points
            text.add(turn.after)
            if (message.role == "assistant") turns += Span(start, if (marked == null) text.pointsWithoutBlanks() else end + marked)
        }
        return Rendered(text.toString(), turns)
    }

    private fun refuse(role: String, index: Int): Nothing = throw UsageException(
        "messages[$index] has the role $role, which this bundle's chat template refuses there, or writes in a way that a phone " +
            "cannot follow. Remove the row, or train with mesp train on a computer.",
    )
}

/** A text that knows its length in code points. */
private class Text {
    private val builder = StringBuilder()
    var points = 0
        private set

    fun add(text: String) {
        builder.append(text)
        points += text.codePointCount(0, text.length)
    }

    fun pointsWithoutBlanks() = points - (builder.length - 1 - builder.indexOfLast { it !in " \t\r\n" })

    override fun toString() = builder.toString()
}
