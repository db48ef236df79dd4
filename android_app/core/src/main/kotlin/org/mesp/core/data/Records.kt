package org.mesp.core.data

import java.io.ByteArrayOutputStream
import java.io.File
import java.io.IOException
import java.nio.ByteBuffer
import java.nio.charset.CharacterCodingException
import java.util.zip.GZIPInputStream
import kotlinx.serialization.SerializationException
import kotlinx.serialization.json.Json
import kotlinx.serialization.json.JsonArray
import kotlinx.serialization.json.JsonElement
import kotlinx.serialization.json.JsonObject
import kotlinx.serialization.json.JsonPrimitive
import org.mesp.core.UsageException

// The records of a data file, each with its place, as runtime/data/records.py describes them. Parquet and all compressions but .gz need
// libraries that a phone does not have; they are refused.

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
 * @param text told the contents of a text file, if there is more than blanks in it
 * @param record told of each row of any other, whatever it holds
 * @throws UsageException no file, or one that is not read or is damaged
 */
internal fun forEachRecord(path: File, text: (String) -> Unit, record: (where: String, JsonElement) -> Unit) {
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

private fun readText(path: File, receive: (String) -> Unit) {
    val text = StringBuilder()
    forEachLine(path) { _, line -> text.append(line) }
    if (!blank(text)) receive(text.toString())
}

/** An object a line; or one list of them, where the first line that is not blank begins one. */
private fun readJson(path: File, receive: (String, JsonElement) -> Unit) {
    var list: StringBuilder? = null
    var begun = false
    forEachLine(path) { number, line ->
        if (!begun && !blank(line)) {
            begun = true
            if (line.trimStart(::isPythonSpace).startsWith('[')) list = StringBuilder()
        }
        val whole = list
        if (whole != null) {
            whole.append(line)
        } else if (!blank(line)) {
            val where = "$path, line $number"
            receive(where, parse(line) { "$where: not JSON ($it). A file of this name has one JSON object a line, or is one list of them." })
        }
    }
    val rows = list?.let { parse(it.toString()) { fault -> "$path: not a JSON list ($fault). Expected [{...}, {...}] and nothing after it." } }
    (rows as JsonArray?)?.forEachIndexed { index, row -> receive("$path, row ${index + 1}", row) }
}

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
    var done = 0
    try {
        path.inputStream().use { file ->
            val stream = (if (path.name.lowercase().endsWith(".gz")) GZIPInputStream(file) else file).buffered()
            val line = ByteArrayOutputStream()
            do {
                val byte = stream.read()
                if (byte >= 0) line.write(byte)
                if (byte == '\n'.code || (byte < 0 && line.size() > 0)) {
                    done++
                    val text = Charsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(line.toByteArray())).toString()
                    line.reset()
                    receive(done, if (done == 1) text.removePrefix("\uFEFF") else text)
                }
            } while (byte >= 0)
        }
    } catch (error: CharacterCodingException) {
        throw UsageException("$path, line $done: not UTF-8 text. Save the file as UTF-8.", error)
    } catch (error: IOException) {
        throw UsageException(
            "$path, after line $done: cannot be read (${error.message}). Copy it again, whole and named as it is compressed.",
            error,
        )
    }
}

internal fun blank(text: CharSequence) = text.all(::isPythonSpace)

/** What Python's str.strip takes off. */
internal fun isPythonSpace(character: Char) = character.isWhitespace() || character == '\u0085'

internal fun short(value: Any?): String = value.toString().let { if (it.length <= 60) it else it.take(59) + "…" }
