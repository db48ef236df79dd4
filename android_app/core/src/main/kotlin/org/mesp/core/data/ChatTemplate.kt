package org.mesp.core.data

import java.time.LocalDateTime
import java.time.Month
import java.time.format.TextStyle
import java.util.Locale
import kotlinx.serialization.Serializable
import org.mesp.core.UsageException

/** Where something is in a text, in code points: from [start] to before [end]. */
data class Span(val start: Int, val end: Int)

/** A conversation as the chat template writes it, and where in the text the assistant's turns are that are trained on. */
class Rendered(val text: String, val turns: List<Span>)

/**
 * How the messages of a role are written.
 *
 * @param before what is before the content, by the role of the message before, "" for none; the template refuses it after others
 * @param after what is after the content
 * @param trim what of the content is left out: "blanks" around it, at its "end", line feeds ("lines") before it, or nothing ("")
 * @param last whether a conversation may end with it
 * @param filled whether something must be left of the content: the template writes another text in place of none
 * @param refuses what must not be in the content: the template looks for it, and writes it or the conversation otherwise
 */
@Serializable
class Turn(
    val before: Map<String, String>,
    val after: String,
    val trim: String = "",
    val last: Boolean = true,
    val filled: Boolean = false,
    val refuses: List<String> = emptyList(),
) {
    fun trimmed(content: String): String = when (trim) {
        "blanks" -> content.trim(::isPythonSpace)
        "end" -> content.trimEnd(::isPythonSpace)
        "lines" -> content.trimStart('\n')
        else -> content
    }
}

/**
 * How the assistant's message that ends a conversation is written: its reasoning between [before] and [after], and then its answer. In the
 * content, reasoning is what <think> and </think> enclose. It is not written where other messages follow.
 */
@Serializable
class Thinking(val before: String, val after: String) {
    /** The content of a message that nothing follows. */
    fun last(content: String): String {
        val reasoning = if (END !in content) "" else content.substringBefore(END).trimEnd('\n').substringAfterLast(START).trim('\n')
        return before + reasoning + after + earlier(content).trimStart('\n')
    }

    /** The content of a message that others follow. */
    fun earlier(content: String): String = if (END in content) content.substringAfterLast(END).trimStart('\n') else content

    private companion object {
        const val START = "<think>"
        const val END = "</think>"
    }
}

/**
 * A chat template as a table. The original needs Python; `mesp export` has made the table of it, and checked that both write the same.
 *
 * @param unsupported why it could not be resolved, if it could not
 * @param turns by role
 * @param prompt what asks the model for the assistant's turn
 * @param skip code points before an assistant's content that it does not write
 * @param marked code points after it that are trained on, by the template's own marks; null for all, but the blanks at the end
 * @param thinking how the last answer is written, if otherwise than earlier ones
 * @param refused the beginnings and ends of contents that the template takes for something else
 */
@Serializable
class ChatTemplate(
    val unsupported: String? = null,
    val turns: Map<String, Turn> = emptyMap(),
    val prompt: String = "",
    val skip: Int = 0,
    val marked: Int? = null,
    val thinking: Thinking? = null,
    val refused: List<List<String>> = emptyList(),
) {
    /**
     * Writes a conversation as the original template does: once, or once for each answer that is trained on, up to it, where the template
     * writes an answer otherwise once others follow. [now] is the date that it writes, if it does.
     *
     * @throws UsageException it cannot: the reason that export found, or a message where the template writes it in a way of its own
     */
    fun render(messages: List<Message>, now: LocalDateTime): List<Rendered> {
        if (unsupported != null) {
            throw UsageException(
                "this bundle's chat template cannot be used on a phone: $unsupported. " +
                    "Train on rows of prompt and completion, or with mesp train on a computer.",
            )
        }
        if (thinking == null) return listOf(whole(messages, now))
        val trained = messages.indices.filter { messages[it].role == "assistant" && messages[it].train }
        if (trained.isEmpty()) return listOf(Rendered(whole(messages, now).text, emptyList()))
        return trained.map { index ->
            val rendered = whole(messages.take(index + 1), now)
            Rendered(rendered.text, rendered.turns.takeLast(1))
        }
    }

    private fun whole(messages: List<Message>, now: LocalDateTime): Rendered {
        val text = Text()
        val turns = ArrayList<Span>()
        messages.forEachIndexed { index, message ->
            val (turn, before) = turnOf(messages, index)
            val start = text.points + skip
            text.add(dated(before, now))
            val content = contentOf(message, last = index == messages.size - 1)
            text.add(turn.trimmed(content))
            val end = text.points
            text.add(turn.after)
            val written = message.role == "assistant" && (message.train || thinking != null)
            if (written) turns += Span(start, if (marked == null) text.pointsWithoutBlanks() else end + marked)
        }
        return Rendered(text.toString(), turns)
    }

    private fun turnOf(messages: List<Message>, index: Int): Pair<Turn, String> {
        val message = messages[index]
        val turn = turns[message.role] ?: refuse(message.role, index)
        val before = turn.before[if (index == 0) "" else messages[index - 1].role] ?: refuse(message.role, index)
        if (index == messages.size - 1 && !turn.last) refuse(message.role, index)
        checkContent(turn, message, index)
        return Pair(turn, before)
    }

    /** Refuses a content that the template writes in a way of its own. */
    private fun checkContent(turn: Turn, message: Message, index: Int) {
        val content = message.content
        val what = turn.refuses.find { it in content }?.let { "has $it in its content" }
            ?: "has no content".takeIf { turn.filled && turn.trimmed(content).isEmpty() }
            ?: refused.find { (start, end) -> content.startsWith(start) && content.endsWith(end) }?.let { (start, end) -> "is from $start to $end" }
            ?: return
        throw UsageException(
            "messages[$index] of the role ${message.role} $what, which this bundle's chat template writes in a way that a phone cannot " +
                "follow. Remove the row, or train with mesp train on a computer.",
        )
    }

    private fun contentOf(message: Message, last: Boolean): String = when {
        thinking == null || message.role != "assistant" -> message.content
        last -> thinking.last(message.content)
        else -> thinking.earlier(message.content)
    }

    private fun refuse(role: String, index: Int): Nothing = throw UsageException(
        "messages[$index] has the role $role, which this bundle's chat template refuses there, or writes in a way that a phone " +
            "cannot follow. Remove the row, or train with mesp train on a computer.",
    )
}

private val MARKED_DATE = Regex("\ufdd0([^\ufdd0]*)\ufdd0")
private val MONTHS = Month.entries.map { it.getDisplayName(TextStyle.FULL, Locale.ENGLISH) }

/** The text with the date where its format is marked, in Python's directives. */
private fun dated(text: String, now: LocalDateTime): String = MARKED_DATE.replace(text) { mark ->
    Regex("%(.)").replace(mark.groupValues[1]) {
        when (it.groupValues[1]) {
            "d" -> "%02d".format(Locale.ROOT, now.dayOfMonth)
            "m" -> "%02d".format(Locale.ROOT, now.monthValue)
            "y" -> "%02d".format(Locale.ROOT, now.year % 100)
            "Y" -> "%04d".format(Locale.ROOT, now.year)
            "b" -> MONTHS[now.monthValue - 1].take(3)
            else -> MONTHS[now.monthValue - 1]
        }
    }
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
