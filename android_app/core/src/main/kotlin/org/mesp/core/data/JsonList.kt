package org.mesp.core.data

/** Cuts one JSON list into its items as it comes, line by line, so that no more than an item is in memory. [item] is told each, unparsed. */
internal class JsonList(private val item: (String) -> Unit) {
    private val text = StringBuilder()
    private var depth = 0
    private var quoted = false
    private var escaped = false
    private var separated = false
    private var over = false

    /** Takes a line, and returns what is wrong with the list, if something is. */
    fun add(line: String): String? = line.firstNotNullOfOrNull(::take)

    /** What is wrong with a list that ends here, if something is. */
    fun end(): String? = if (over) null else "it has no end"

    private fun take(character: Char): String? {
        if (over) return if (isPythonSpace(character)) null else "there is more after its end"
        if (escaped) {
            escaped = false
        } else if (quoted) {
            escaped = character == '\\'
            quoted = character != '"'
        } else {
            quoted = character == '"'
            if (character in "[{" && depth++ == 0) return null // the list's own bracket
            if (character in "]}" && --depth == 0) return close(character)
            if (character == ',' && depth == 1) return next()
        }
        if (depth > 0) text.append(character)
        return null
    }

    private fun next(): String? {
        if (blank(text)) return "an item is missing"
        separated = true
        val found = text.toString()
        text.setLength(0)
        item(found)
        return null
    }

    private fun close(character: Char): String? {
        over = true
        if (character != ']') return "it ends in $character"
        return if (blank(text) && !separated) null else next()
    }
}
