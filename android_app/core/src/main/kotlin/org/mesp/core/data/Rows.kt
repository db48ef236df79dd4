package org.mesp.core.data

import java.io.File
import kotlinx.serialization.json.JsonArray
import kotlinx.serialization.json.JsonElement
import kotlinx.serialization.json.JsonNull
import kotlinx.serialization.json.JsonObject
import kotlinx.serialization.json.JsonPrimitive
import org.mesp.core.UsageException

// From the records of a file to checked rows, as runtime/data/rows.py describes: every key of a row is used, refused by its name, or an ordinary
// column that is not read. RowKeys has the keys.

/** A message of a conversation, and whether it is trained on, if it is the assistant's. */
data class Message(val role: String, val content: String, val train: Boolean = true)

/** A checked row; [where] is its file and line. */
internal sealed class Row(val where: String, val kind: Kind)

/** A text, in [parts]: a file's may be longer than memory. */
internal class TextRow(where: String, kind: Kind, val parts: Parts) : Row(where, kind)

internal class CompletionRow(where: String, val prompt: String, val completion: String) : Row(where, Kind.COMPLETION)

internal class MessagesRow(where: String, val messages: List<Message>) : Row(where, Kind.MESSAGES)

internal class IdsRow(where: String, val ids: List<Long>, val labels: List<Long>) : Row(where, Kind.IDS)

/**
 * Reads a data file row by row.
 *
 * @param columns what the rows call the keys of their kind, as `--map` takes it: "prompt=question,completion=answer"
 * @param notRead told of each row's columns that are not read
 * @throws UsageException no file, a damaged one, or a row that is malformed, of another kind than the first, or has a key that would change
 *   what is trained on
 */
internal fun forEachRow(path: File, columns: String? = null, notRead: (Set<String>) -> Unit = {}, receive: (Row) -> Unit) {
    val named = readColumns(columns)
    var first: Kind? = null
    forEachRecord(path, { parts -> receive(TextRow(path.path, Kind.FILE, parts)) }) { where, record ->
        val taken = takenApart(record, named, where)
        val expected = first ?: taken.kind.also { first = it }
        if (taken.kind != expected) {
            throw UsageException("$where: ${quoted(taken.kind.keys)} after rows of ${quoted(expected.keys)}. Keep one kind in a file.")
        }
        refuseReserved(taken, where)
        notRead(taken.others.filterValues { it != JsonNull }.keys)
        receive(checked(taken, where))
    }
}

/** @throws UsageException it is not of the form "prompt=question,completion=answer", or what is left of a "=" is no key of a kind */
internal fun readColumns(text: String?): Map<String, String> {
    val columns = LinkedHashMap<String, String>()
    for (part in text?.split(",").orEmpty()) {
        val key = part.substringBefore('=').trim()
        val column = part.substringAfter('=', "").trim()
        if (key.isEmpty() || column.isEmpty()) {
            throw UsageException("map $text: '$part' is not KEY=COLUMN, as in prompt=question,completion=answer.")
        }
        if (key !in TARGETS) throw UsageException("map $text: $key is no key of a row. Keys are ${TARGETS.joinToString(", ")}.")
        if (columns.put(key, column) != null) throw UsageException("map $text: $key is there twice.")
    }
    return columns
}

/** A record's kind; the keys that make it one, which are of the kind itself or [foreign]; and all others. */
private class Taken(val kind: Kind, val foreign: String?, val used: Map<String, JsonElement>, val others: Map<String, JsonElement>)

private fun takenApart(record: JsonElement, columns: Map<String, String>, where: String): Taken {
    if (record !is JsonObject) throw UsageException("$where: ${short(record)} is not an object. $EXPECTED.")
    columns.values.find { it !in record }?.let {
        throw UsageException("$where: the row has no \"$it\", which map names; it has ${quoted(record.keys).ifEmpty { "nothing" }}.")
    }
    val named = if (columns.isEmpty()) record else columns.mapValues { record.getValue(it.value) }
    val rest = if (columns.isEmpty()) emptyMap() else record - columns.values.toSet()
    val kinds = Kind.entries.filter { it != Kind.FILE && named.keys.containsAll(it.keys) }
    val foreign = if (kinds.isEmpty()) FOREIGN.filterValues(named.keys::containsAll) else emptyMap()
    if (kinds.size + foreign.size > 1) {
        val both = (kinds.map { it.keys } + foreign.values).joinToString(" and of ", transform = ::quoted)
        throw UsageException("$where: the row is one of $both. Keep the keys of one kind only, or choose with map.")
    }
    if (kinds.isEmpty() && foreign.isEmpty()) {
        val names = quoted(record.keys).ifEmpty { "nothing" }
        throw UsageException("$where: $EXPECTED; this one has $names. Rename or add its keys, or say which they are with map.")
    }
    val name = foreign.keys.singleOrNull()
    val kind = kinds.singleOrNull() ?: Kind.MESSAGES
    val keys = (if (name == null) kind.keys else foreign.getValue(name)) + OPTIONAL[name ?: kind.label].orEmpty()
    return Taken(kind, name, named.filterKeys { it in keys }, rest + named.filterKeys { it !in keys })
}

/** Refuses keys that are no ordinary columns: other trainers give them a meaning, which they would lose here. */
private fun refuseReserved(taken: Taken, where: String) {
    for ((name, value) in taken.others) {
        val rule = RESERVED[name] ?: continue
        if ((rule.kinds != null && taken.kind.label !in rule.kinds) || isNothing(value)) continue
        val text = (value as? JsonPrimitive)?.content
        if (text in rule.harmless || (rule.harmful.isNotEmpty() && text !in rule.harmful)) continue
        throw UsageException(
            "$where: \"$name\" would change what is trained on, and is not supported. ${rule.instead} Or leave the key out.",
        )
    }
}

private fun isNothing(value: JsonElement?): Boolean = when (value) {
    null, JsonNull -> true
    is JsonArray -> value.isEmpty()
    is JsonObject -> value.isEmpty()
    is JsonPrimitive -> value.isString && value.content.isEmpty()
}

private fun checked(taken: Taken, where: String): Row {
    val used = taken.used
    fun string(name: String) = string(used[name], "\"$name\"", where)
    return when {
        taken.foreign == "Alpaca" -> MessagesRow(where, alpaca(used, where))
        taken.kind == Kind.MESSAGES -> MessagesRow(where, messages(used, where))
        taken.kind == Kind.COMPLETION -> CompletionRow(where, string("prompt"), string("completion"))
        taken.kind == Kind.IDS -> idsRow(used, where)
        else -> string("text").let { text -> TextRow(where, taken.kind) { inParts(text, it) } }
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

/** Those of "messages" or of ShareGPT's "conversations"; a turn of either has a role and content, or a speaker and a value. */
private fun messages(values: Map<String, JsonElement>, where: String): List<Message> {
    val key = if ("messages" in values) "messages" else "conversations"
    val list = values.getValue(key)
    if (list !is JsonArray || list.isEmpty()) {
        val expected = if (key == "messages") "{\"role\", \"content\"}" else "{\"from\", \"value\"}"
        throw UsageException("$where: \"$key\" must be a list of $expected, not ${short(list)}.")
    }
    val messages = list.mapIndexed { index, item -> message(withRole(item, "$key[$index]", where), "$key[$index]", where) }
    return conversation(afterSystem(values["system"], messages, where), where)
}

private fun withRole(item: JsonElement, name: String, where: String): JsonElement {
    if (item !is JsonObject || "from" !in item || "role" in item || "content" in item) return item
    val speaker = (item["from"] as? JsonPrimitive)?.takeIf { it.isString }?.content
    val role = SPEAKERS[speaker] ?: throw UsageException("$where: $name is from ${short(item["from"])}. Known are ${SPEAKERS.keys.joinToString(", ")}.")
    return JsonObject(item - setOf("from", "value") + mapOf("role" to JsonPrimitive(role), "content" to (item["value"] ?: JsonNull)))
}

private fun message(message: JsonElement, name: String, where: String): Message {
    if (message !is JsonObject) throw UsageException("$where: $name must be {\"role\", \"content\"}, not ${short(message)}.")
    val role = (message["role"] as? JsonPrimitive)?.takeIf { it.isString }?.content
    if (role == null || role !in ROLES) {
        val given = role?.let { "'$it'" } ?: short(message["role"])
        throw UsageException("$where: $name has the role $given. Roles are ${ROLES.joinToString(", ")}.")
    }
    val content = string(message["content"], "$name[\"content\"]", where)
    val extra = message.filter { (key, value) -> key !in KNOWN && !isNothing(value) }.keys
    if (extra.isNotEmpty()) throw UsageException("$where: $name has ${quoted(extra)}. Write it into the content, or remove it.")
    val train = train(message, name, where)
    if (role != "assistant" && train == true) {
        throw UsageException("$where: $name is marked to be trained on, but only the assistant's messages are. Remove the mark.")
    }
    return Message(role, content, train ?: true)
}

private val KNOWN = setOf("role", "content", "weight", "train")

/** What "weight" (0 or 1) and "train" (a boolean) say; null if they are not there. */
private fun train(message: JsonObject, name: String, where: String): Boolean? {
    fun mark(key: String, words: String, of: (JsonPrimitive) -> Boolean?): Boolean? {
        val value = message[key]
        if (value == null || value == JsonNull) return null
        return (value as? JsonPrimitive)?.takeIf { !it.isString }?.let(of)
            ?: throw UsageException("$where: $name[\"$key\"] must be $words, not ${short(value)}.")
    }
    val weight = mark("weight", "0 or 1") { mapOf(0.0 to false, 1.0 to true)[it.content.toDoubleOrNull()?.plus(0.0)] }
    val train = mark("train", "true or false") { it.content.toBooleanStrictOrNull() }
    if (weight != null && train != null && weight != train) {
        throw UsageException("$where: $name has a \"weight\" and a \"train\" that say the opposite. Keep one of both.")
    }
    return weight ?: train
}

private fun alpaca(values: Map<String, JsonElement>, where: String): List<Message> {
    fun text(name: String) = string(values[name], "\"$name\"", where)
    val input = if (isNothing(values["input"])) "" else text("input")
    val question = listOf(text("instruction"), input).filter(String::isNotEmpty).joinToString("\n")
    val messages = listOf(Message("user", question), Message("assistant", text("output")))
    return conversation(afterSystem(values["system"], messages, where), where)
}

private fun afterSystem(system: JsonElement?, messages: List<Message>, where: String): List<Message> {
    if (isNothing(system)) return messages
    val content = string(system, "\"system\"", where)
    if (messages[0].role == "system") {
        throw UsageException("$where: \"system\" stands beside a first message of the system. Keep one of both.")
    }
    return listOf(Message("system", content)) + messages
}

private fun conversation(messages: List<Message>, where: String): List<Message> {
    if (messages.none { it.role == "assistant" }) {
        throw UsageException("$where: no message is the assistant's, to learn from. Add one, or remove the row.")
    }
    if (messages[0].role == "assistant") {
        throw UsageException("$where: the first message is the assistant's. Put the message that it answers before it.")
    }
    return messages
}

/** Token ids and labels without padding. */
private fun idsRow(values: Map<String, JsonElement>, where: String): IdsRow {
    val numbers = values.filter { (name, value) -> name in Kind.IDS.keys || value != JsonNull }.mapValues { (name, value) ->
        val list = (value as? JsonArray)?.map(::wholeNumber)
        if (list == null || null in list) throw UsageException("$where: \"$name\" must be a list of whole numbers, not ${short(value)}.")
        list.filterNotNull()
    }
    val (ids, labels) = Kind.IDS.keys.map(numbers::getValue)
    if (ids.size != labels.size) {
        throw UsageException("$where: ${ids.size} input_ids but ${labels.size} labels. Give each token its own label, not shifted.")
    }
    for (name in OPTIONAL.getValue("ids")) {
        val size = numbers[name]?.size ?: continue
        if (size != ids.size) throw UsageException("$where: ${ids.size} input_ids but $size $name. Give each token its own.")
    }
    val kept = unmasked(numbers["attention_mask"], labels, where)
    val positions = numbers["position_ids"]?.slice(kept).orEmpty()
    if (positions.zipWithNext().any { (before, after) -> after != before + 1 }) {
        throw UsageException("$where: \"position_ids\" must count up by one, but do not: ${short(positions)}. Make each sequence a row of its own.")
    }
    return IdsRow(where, ids.slice(kept), labels.slice(kept))
}

/** Where the tokens are that attention sees: all in one piece, with padding before and after. Padding is no target. */
private fun unmasked(mask: List<Long>?, labels: List<Long>, where: String): IntRange {
    if (mask == null) return labels.indices
    val seen = mask.indices.filter { mask[it] == 1L }
    val kept = if (seen.isEmpty()) IntRange.EMPTY else seen.first()..seen.last()
    if (mask.any { it != 0L && it != 1L } || kept.count() != seen.size) {
        throw UsageException(
            "$where: \"attention_mask\" must be of 1, with 0 for padding before and after, not ${short(mask)}. " +
                "Make each sequence a row of its own.",
        )
    }
    labels.indices.find { it !in kept && labels[it] != MASKED.toLong() }?.let {
        throw UsageException("$where: labels[$it] is a target, but \"attention_mask\" says that it is padding. Give it the label -100.")
    }
    return kept
}

private val WHOLE = Regex("-?[0-9]+")

/** Null for what is no integer of JSON. A number beyond 64 bits is no token id in any case, and becomes the nearest that fits. */
private fun wholeNumber(value: JsonElement): Long? {
    if (value !is JsonPrimitive || value.isString || !WHOLE.matches(value.content)) return null
    return value.content.toLongOrNull() ?: if (value.content.startsWith('-')) Long.MIN_VALUE else Long.MAX_VALUE
}

private fun quoted(names: Collection<String>) = names.joinToString(", ") { "\"$it\"" }
