package org.mesp.app.state

/** An error's text, in the order in which a person needs it. */
object WhatToDo {
    private val SENTENCE = Regex("""(?<=[.!?])\s+(?=\p{Lu})""")

    /**
     * What to do, and what went wrong. An error says first what was wrong and last what to do; where it is one sentence alone, [otherwise] is what
     * to do.
     */
    fun of(error: String, otherwise: String): Pair<String, String> {
        val text = error.trim()
        val last = SENTENCE.findAll(text).lastOrNull() ?: return otherwise to text
        return text.substring(last.range.last + 1) to text.substring(0, last.range.first)
    }
}
