package org.mesp.core.data

import java.io.File
import java.io.IOException
import java.io.InputStream
import java.nio.ByteBuffer
import java.nio.CharBuffer
import java.util.zip.GZIPInputStream
import kotlinx.serialization.SerializationException
import kotlinx.serialization.json.Json
import kotlinx.serialization.json.JsonElement
import kotlinx.serialization.json.JsonObject
import kotlinx.serialization.json.JsonPrimitive
import org.mesp.core.UsageException

// The records of a data file, each with its place, as runtime/data/records.py describes them. Parquet and all compressions but .gz need
// libraries that a phone does not have; they are refused.

/** A text that comes in parts, each told to what is given. */
internal typealias Parts = ((String) -> Unit) -> Unit

/** What a name's suffix says that a file is: rows.json of runtime/contract has the same. */
internal val SUFFIXES =
    mapOf(
        "text" to listOf("txt", "md"),
        "json" to listOf("", "jsonl", "ndjson", "json"),
        "csv" to listOf("csv"),
        "tsv" to listOf("tsv"),
        "parquet" to listOf("parquet"),
    )

/**
 * Reads a data file record by record.
 *
 * @param text told of a text file, if there is more than blanks in it; what it is given tells the contents, in parts
 * @param record told of each row of any other, whatever it holds
 * @throws UsageException no file, or one that is not read or is damaged
 */
internal fun forEachRecord(path: File, text: (Parts) -> Unit, record: (where: String, JsonElement) -> Unit) {
    if (path.isDirectory) throw UsageException("$path is a folder. Give one data file of it.")
    if (!path.isFile) throw UsageException("There is no data file at $path.")
    when (formatOf(path)) {
        "text" -> readText(path, text)
        "csv" -> readCsv(path, ',', record)
        "tsv" -> readCsv(path, '\t', record)
        else -> readJson(path, record)
    }
}

private fun formatOf(path: File): String {
    val name = path.name.lowercase()
    if (COMPRESSED.any(name::endsWith)) {
        throw UsageException("$path: of compressed files only .gz is read on a phone. Decompress it first.")
    }
    val suffix = name.removeSuffix(".gz").trimStart('.').substringAfterLast('.', "")
    if (suffix == "parquet") {
        throw UsageException(
            "$path: Parquet is not read on a phone. Make JSON lines of it on a computer: python -c \"from datasets import Dataset; " +
                "Dataset.from_parquet('rows.parquet').to_json('rows.jsonl')\"",
        )
    }
    return SUFFIXES.entries.find { suffix in it.value }?.key
        ?: throw UsageException(
            "$path: .$suffix files are not read. Data is text (.txt, .md), JSON lines or a list (.jsonl, .ndjson, .json), .csv or .tsv; " +
                "each also compressed, with .gz after its name.",
        )
}

private val COMPRESSED = listOf(".bz2", ".xz", ".zst")

private fun readText(path: File, receive: (Parts) -> Unit) {
    // Read twice, as a text may be longer than memory: a file of blanks has nothing to learn from.
    var some = false
    forEachPart(path) { if (!blank(it)) some = true }
    if (some) receive { forEachPart(path, it) }
}

/** An object a line; or one list of them, where the first line that is not blank begins one. */
private fun readJson(path: File, receive: (String, JsonElement) -> Unit) {
    var list: JsonList? = null
    var begun = false
    var rows = 0
    forEachLine(path) { number, line ->
        if (!begun && !blank(line)) {
            begun = true
            if (line.trimStart(::isPythonSpace).startsWith('[')) {
                list = JsonList { row ->
                    rows++
                    receive("$path, row $rows", parse(row) { noList(path, it) })
                }
            }
        }
        val items = list
        if (items != null) {
            items.add(line)?.let { throw UsageException(noList(path, it)) }
        } else if (!blank(line)) {
            val where = "$path, line $number"
            receive(where, parse(line) { "$where: not JSON ($it). A file of this name has one JSON object a line, or is one list of them." })
        }
    }
    list?.end()?.let { throw UsageException(noList(path, it)) }
}

private fun noList(path: File, fault: String?) = "$path: not a JSON list ($fault). Expected [{...}, {...}] and nothing after it."

private fun parse(text: String, words: (fault: String?) -> String): JsonElement {
    try {
        val fault = looseness(text) ?: return Json.parseToJsonElement(text)
        throw SerializationException(fault)
    } catch (error: SerializationException) {
        throw UsageException(words(error.message?.lineSequence()?.first()), error)
    }
}

private val LITERAL = Regex("true|false|null|NaN|-?Infinity|-?(0|[1-9][0-9]*)(\\.[0-9]+)?([eE][+-]?[0-9]+)?")
private const val DEEPEST = 900

/** What Python's parser refuses and kotlinx.serialization lets pass: unknown words, control characters in strings, endless depth. */
private fun looseness(line: String): String? {
    val word = StringBuilder()
    var quoted = false
    var escaped = false
    var depth = 0
    for (character in "$line ") {
        if (escaped) {
            escaped = false
        } else if (quoted) {
            if (character < ' ') return "a control character in a string"
            escaped = character == '\\'
            quoted = character != '"'
        } else if (character in " \t\r\n,:[]{}\"") {
            if (word.isNotEmpty() && !LITERAL.matches(word)) return "${short(word)} is no value"
            word.clear()
            quoted = character == '"'
            if (character in "[{" && ++depth > DEEPEST) return "more than $DEEPEST levels"
            if (character in "]}") depth--
        } else {
            word.append(character)
        }
    }
    return null
}

private fun readCsv(path: File, delimiter: Char, receive: (String, JsonElement) -> Unit) {
    val csv = Csv(delimiter)
    var where = "$path, line 1"
    var header: List<String>? = null
    try {
        forEachLine(path) { number, line ->
            csv.add(line)?.let { fields ->
                val names = header
                if (names == null) {
                    header = fields.also { checkHeader(it, where) }
                } else if (fields.isNotEmpty()) {
                    if (fields.size != names.size) {
                        val counts = "${fields.size} fields, but the header has ${names.size}"
                        val separator = if (delimiter == ',') "comma" else "tab"
                        throw UsageException("$where: $counts. Quote each field that has a $separator or a line feed.")
                    }
                    receive(where, JsonObject(names.zip(fields.map(::JsonPrimitive)).toMap()))
                }
                where = "$path, line ${number + 1}"
            }
        }
        csv.end()
    } catch (error: CsvException) {
        throw UsageException("$where: not CSV (${error.message}). Close each quote, and double a quote inside quotes.", error)
    }
}

private fun checkHeader(names: List<String>, where: String) {
    val twice = names.groupingBy { it }.eachCount().filter { (name, count) -> name.isNotEmpty() && count > 1 }.keys
    if (twice.isNotEmpty()) throw UsageException("$where: the header has \"${twice.min()}\" twice. Give each column a name of its own.")
}

/** The lines of a text file, numbered from 1, decompressed, with their ends. A line ends at a line feed and nowhere else. */
private fun forEachLine(path: File, receive: (Int, String) -> Unit) {
    val line = StringBuilder()
    var done = 0
    forEachPart(path) { part ->
        var start = 0
        while (start < part.length) {
            val feed = part.indexOf('\n', start)
            val end = if (feed < 0) part.length else feed + 1
            line.append(part, start, end)
            start = end
            if (feed >= 0) {
                val text = line.toString()
                line.setLength(0)
                receive(++done, text)
            }
        }
    }
    if (line.isNotEmpty()) receive(done + 1, line.toString())
}

/** The contents of a text file in parts, decompressed, without a byte order mark. */
private fun forEachPart(path: File, receive: (String) -> Unit) {
    var lines = 0
    var begun = false
    fun told(characters: CharBuffer) {
        characters.flip()
        val part = characters.toString()
        characters.clear()
        lines += part.count { it == '\n' }
        val text = if (begun) part else part.removePrefix("\uFEFF")
        if (part.isNotEmpty()) begun = true
        if (text.isNotEmpty()) receive(text)
    }
    try {
        path.inputStream().use { file ->
            val stream = if (path.name.lowercase().endsWith(".gz")) GZIPInputStream(file) else file
            if (!decode(stream, ::told)) throw UsageException("$path, line ${lines + 1}: not UTF-8 text. Save the file as UTF-8.")
        }
    } catch (error: IOException) {
        throw UsageException(
            "$path, after line $lines: cannot be read (${error.message}). Copy it again, whole and named as it is compressed.",
            error,
        )
    }
}

private const val PART = 8192

/** Whether the whole stream is UTF-8; what of it is, is told in parts. */
private fun decode(stream: InputStream, receive: (CharBuffer) -> Unit): Boolean {
    val decoder = Charsets.UTF_8.newDecoder()
    val bytes = ByteBuffer.allocate(PART)
    val characters = CharBuffer.allocate(PART)
    do {
        val count = stream.read(bytes.array(), bytes.position(), bytes.remaining())
        if (count > 0) bytes.position(bytes.position() + count)
        bytes.flip()
        val result = decoder.decode(bytes, characters, count < 0)
        receive(characters)
        if (result.isError) return false
        bytes.compact()
    } while (count >= 0)
    return true
}

internal fun blank(text: CharSequence) = text.all(::isPythonSpace)

/** What Python's str.strip takes off. */
internal fun isPythonSpace(character: Char) = character.isWhitespace() || character == '\u0085'

internal fun short(value: Any?): String = value.toString().let { if (it.length <= 60) it else it.take(59) + "…" }
