package org.mesp.core.data

/** A line that is not CSV. */
internal class CsvException(message: String) : Exception(message)

/**
 * Comma-separated values a line at a time, as Python's `csv.reader(strict=True)` reads them: a field in quotes may have commas, line feeds
 * and doubled quotes; nothing but a comma or the end of the line may follow its closing quote. Another [delimiter] may stand for the comma.
 */
internal class Csv(private val delimiter: Char = ',') {
    private enum class State { RECORD, FIELD, PLAIN, QUOTED, QUOTE, ENDED }

    private val field = StringBuilder()
    private var fields = ArrayList<String>()
    private var state = State.RECORD

    /**
     * Takes a line with its end and returns the record that ends with it: without fields for an empty line, null if it goes on.
     *
     * @throws CsvException a carriage return or quote where none can be
     */
    fun add(line: String): List<String>? {
        line.forEach(::take)
        if (state == State.QUOTED) return null
        if (state != State.RECORD && state != State.ENDED) close(State.ENDED)
        state = State.RECORD
        return fields.also { fields = ArrayList() }
    }

    /** @throws CsvException the last field's quote is not closed */
    fun end() {
        if (state == State.QUOTED) throw CsvException("unexpected end of data")
    }

    private fun take(character: Char) = when (state) {
        State.RECORD -> if (character in "\r\n") state = State.ENDED else begin(character)
        State.FIELD -> begin(character)
        State.PLAIN -> plain(character)
        State.QUOTED -> if (character == '"') state = State.QUOTE else keep(character, State.QUOTED)
        State.QUOTE -> when (character) {
            '"' -> keep(character, State.QUOTED)
            delimiter, '\r', '\n' -> plain(character)
            else -> throw CsvException("'$delimiter' expected after '\"'")
        }
        State.ENDED -> if (character !in "\r\n") throw CsvException("carriage return in a field without quotes") else Unit
    }

    private fun begin(character: Char) {
        if (character == '"') state = State.QUOTED else plain(character)
    }

    private fun plain(character: Char) = when (character) {
        delimiter -> close(State.FIELD)
        '\r', '\n' -> close(State.ENDED)
        else -> keep(character, State.PLAIN)
    }

    private fun keep(character: Char, next: State) {
        field.append(character)
        state = next
    }

    private fun close(next: State) {
        fields.add(field.toString())
        field.clear()
        state = next
    }
}
