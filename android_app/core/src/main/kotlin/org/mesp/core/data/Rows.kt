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
import kotlinx.serialization.json.JsonNull
import kotlinx.serialization.json.JsonObject
import kotlinx.serialization.json.JsonPrimitive
import org.mesp.core.UsageException

// The rows of a data file, checked, as runtime/data/rows.py describes them. A .txt is a text, a .csv has a header, and any other name is JSON lines.
// Each may be compressed, with .gz after its name. Parquet and other compressions need libraries that a phone does not have; they are refused.

/** What a row is. Its [keys] tell. A [FILE] is a .txt: a text that does not end. */
internal enum class Kind(val keys: List<String>) {
    FILE(emptyList()),
    TEXT(listOf("text")),
    COMPLETION(listOf("prompt", "completion")),
    MESSAGES(listOf("messages")),
    IDS(listOf("input_ids", "labels")),
}

internal const val EXPECTED =
    "A row has \"text\", or \"prompt\" and \"completion\", or \"messages\", or \"input_ids\" and \"labels\""
private val ROLES = listOf("system", "user", "assistant", "tool")

/** A message of a conversation. */
data class Message(val role: String, val content: String)

/** A checked row; [where] is its file and line. */
internal sealed class Row(val where: String, val kind: Kind)

internal class TextRow(where: String, kind: Kind, val text: String) : Row(where, kind)

internal class CompletionRow(where: String, val prompt: String, val completion: String) : Row(where, Kind.COMPLETION)

internal class MessagesRow(where: String, val messages: List<Message>) : Row(where, Kind.MESSAGES)

internal class IdsRow(where: String, val ids: List<Long>, val labels: List<Long>) : Row(where, Kind.IDS)

/**
 * Reads a data file row by row.
 *
 * @throws UsageException no file, a damaged one, or a row that is malformed or of another kind than the first
 */
internal fun forEachRow(path: File, receive: (Row) -> Unit) {
    if (!path.isFile) throw UsageException("There is no data file at $path.")
    val name = path.name.lowercase()
    refuseFormats(path, name)
    var first: Kind? = null
    val check = { where: String, values: JsonElement ->
        val kind = kindOf(values, where)
        val expected = first ?: kind.also { first = it }
        if (kind != expected) {
            throw UsageException("$where: ${quoted(kind.keys)} after rows of ${quoted(expected.keys)}. Keep one kind in a file.")
        }
        receive(checked(kind, values as JsonObject, where))
    }
    when (name.removeSuffix(".gz").substringAfterLast('.', "")) {
        "txt" -> readText(path, receive)
        "csv" -> readCsv(path, check)
        else -> readJsonLines(path, check)
    }
}

private fun refuseFormats(path: File, name: String) {
    if (name.endsWith(".bz2") || name.endsWith(".xz")) {
        throw UsageException("$path: of compressed files only .gz is read on a phone. Decompress it first.")
    }
    if (name.removeSuffix(".gz").endsWith(".parquet")) {
        throw UsageException(
            "$path: Parquet is not read on a phone. Make JSON lines of it on a computer: python -c \"from datasets import Dataset; " +
                "Dataset.from_parquet('rows.parquet').to_json('rows.jsonl')\"",
        )
    }
}

private fun readText(path: File, receive: (Row) -> Unit) {
    val text = StringBuilder()
    forEachLine(path) { _, line -> text.append(line) }
    if (!blank(text)) receive(TextRow(path.path, Kind.FILE, text.toString()))
}

private fun readJsonLines(path: File, receive: (String, JsonElement) -> Unit) = forEachLine(path) { number, line ->
    if (!blank(line)) {
        val where = "$path, line $number"
        receive(where, parse(line, where))
    }
}

private fun parse(line: String, where: String): JsonElement {
    try {
        val fault = looseness(line) ?: return Json.parseToJsonElement(line)
        throw SerializationException(fault)
    } catch (error: SerializationException) {
        throw UsageException(
            "$where: not JSON (${error.message?.lineSequence()?.first()}). A file that is not .txt, .csv or .parquet has one JSON object " +
                "a line. Turn a JSON list into that with: jq -c '.[]' FILE > FILE.jsonl",
            error,
        )
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

private fun readCsv(path: File, receive: (String, JsonElement) -> Unit) {
    val csv = Csv()
    var where = "$path, line 1"
    var header: List<String>? = null
    try {
        forEachLine(path) { number, line ->
            csv.add(line)?.let { fields ->
                val names = header
                if (names == null) {
                    header = fields
                } else if (fields.isNotEmpty()) {
                    if (fields.size != names.size) {
                        val counts = "${fields.size} fields, but the header has ${names.size}"
                        throw UsageException("$where: $counts. Quote each field that has a comma or a line feed.")
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

private fun kindOf(values: JsonElement, where: String): Kind {
    if (values !is JsonObject) throw UsageException("$where: ${short(values)} is not an object. $EXPECTED.")
    val kinds = Kind.entries.filter { it != Kind.FILE && values.keys.containsAll(it.keys) }
    if (kinds.size == 1) return kinds[0]
    if (kinds.isNotEmpty()) {
        val both = kinds.joinToString(" and of ") { quoted(it.keys) }
        throw UsageException("$where: the row is one of $both. Keep the keys of one kind only.")
    }
    val names = quoted(values.keys).ifEmpty { "nothing" }
    throw UsageException("$where: $EXPECTED; this one has $names. Rename or add its keys.")
}

private fun checked(kind: Kind, values: JsonObject, where: String): Row {
    fun string(name: String) = string(values[name], "\"$name\"", where)
    return when (kind) {
        Kind.FILE, Kind.TEXT -> TextRow(where, kind, string("text"))
        Kind.COMPLETION -> CompletionRow(where, string("prompt"), string("completion"))
        Kind.MESSAGES -> MessagesRow(where, messages(values, where))
        Kind.IDS -> idsRow(values, where)
    }
}

private fun string(value: JsonElement?, name: String, where: String): String {
    if (value !is JsonPrimitive || !value.isString) {
        throw UsageException("$where: $name must be a string, not ${short(value)}. Correct or remove the row.")
    }
    // JSON can spell half of a surrogate pair, which no tokenizer takes.
    if (!Charsets.UTF_8.newEncoder().canEncode(value.content)) {
        throw UsageException("$where: $name is not Unicode text (surrogates not allowed). Correct or remove the row.")
    }
    return value.content
}

private fun messages(values: JsonObject, where: String): List<Message> {
    val list = values.getValue("messages")
    if (list !is JsonArray || list.isEmpty()) {
        throw UsageException("$where: \"messages\" must be a list of {\"role\", \"content\"}, not ${short(list)}.")
    }
    if (isSomething(values["tools"])) {
        throw UsageException("$where: \"tools\" are not supported. Put their description into the system's content.")
    }
    val messages = list.mapIndexed { index, message -> message(message, "messages[$index]", where) }
    if (messages.none { it.role == "assistant" }) {
        throw UsageException("$where: no message is the assistant's, to learn from. Add one, or remove the row.")
    }
    if (messages[0].role == "assistant") {
        throw UsageException("$where: the first message is the assistant's. Put the message that it answers before it.")
    }
    return messages
}

private fun message(message: JsonElement, name: String, where: String): Message {
    if (message !is JsonObject) throw UsageException("$where: $name must be {\"role\", \"content\"}, not ${short(message)}.")
    val role = (message["role"] as? JsonPrimitive)?.takeIf { it.isString }?.content
    if (role == null || role !in ROLES) {
        val given = role?.let { "'$it'" } ?: short(message["role"])
        throw UsageException("$where: $name has the role $given. Roles are ${ROLES.joinToString(", ")}.")
    }
    val content = string(message["content"], "$name[\"content\"]", where)
    val extra = message.filter { (key, value) -> key != "role" && key != "content" && value != JsonNull }.keys
    if (extra.isNotEmpty()) throw UsageException("$where: $name has ${quoted(extra)}. Write it into the content, or remove it.")
    return Message(role, content)
}

/** Whether Python would take the value for true. */
private fun isSomething(value: JsonElement?): Boolean = when (value) {
    null, JsonNull -> false
    is JsonArray -> value.isNotEmpty()
    is JsonObject -> value.isNotEmpty()
    is JsonPrimitive -> when {
        value.isString -> value.content.isNotEmpty()
        else -> value.content != "false" && value.content.toDoubleOrNull() != 0.0
    }
}

private fun idsRow(values: JsonObject, where: String): IdsRow {
    val (ids, labels) = Kind.IDS.keys.map { name ->
        val numbers = (values.getValue(name) as? JsonArray)?.map(::wholeNumber)
        if (numbers == null || null in numbers) {
            throw UsageException("$where: \"$name\" must be a list of whole numbers, not ${short(values[name])}.")
        }
        numbers.filterNotNull()
    }
    if (ids.size != labels.size) {
        throw UsageException("$where: ${ids.size} input_ids but ${labels.size} labels. Give each token its own label, not shifted.")
    }
    return IdsRow(where, ids, labels)
}

private val WHOLE = Regex("-?[0-9]+")

/** Null for what is no integer of JSON. A number beyond 64 bits is no token id in any case, and becomes the nearest that fits. */
private fun wholeNumber(value: JsonElement): Long? {
    if (value !is JsonPrimitive || value.isString || !WHOLE.matches(value.content)) return null
    return value.content.toLongOrNull() ?: if (value.content.startsWith('-')) Long.MIN_VALUE else Long.MAX_VALUE
}

private fun blank(text: CharSequence) = text.all(::isPythonSpace)

/** What Python's str.strip takes off. */
internal fun isPythonSpace(character: Char) = character.isWhitespace() || character == '\u0085'

private fun quoted(names: Collection<String>) = names.joinToString(", ") { "\"$it\"" }

private fun short(value: Any?): String = value.toString().let { if (it.length <= 60) it else it.take(59) + "…" }
