package org.mesp.core.data

import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder

/** Writes the folder of a tokenizer without merges: printable ASCII, a character a token, "!" is 33; then space, line feed and BOS, EOS. */
internal fun writeTokenizer(folder: File, chat: String = "null", tokenizer: String? = null, version: Int = 3): File {
    folder.mkdirs()
    writeVocabulary(folder, ((33..126) + listOf(32, 10)).associateWith { it.toChar().toString().toByteArray() })
    val described = tokenizer ?: """{"splits": [" ?[^ ]+|[ ]+"], "letters": "41-5a 61-7a", "spaces": "9-d 20",
        "special": {"<s>": 1, "</s>": 2}, "before": [1], "end": 2}"""
    File(folder, "mobile.json").writeText("{\"format_version\": $version, \"tokenizer\": $described, \"chat\": $chat}")
    return folder
}

/** Writes the tokens and merges of a tokenizer, the first merges first, as export does. */
internal fun writeVocabulary(folder: File, tokens: Map<Int, ByteArray>, merges: List<Pair<String, String>> = emptyList()): File {
    val ids = 0..(tokens.keys.maxOrNull() ?: 0)
    val ofToken = merges.withIndex().groupBy({ (_, pair) -> pair.first + pair.second }, { (rank, pair) -> pair.first.toByteArray().size to rank })
    val pairs = ids.map { id -> tokens[id]?.let { ofToken[it.decodeToString()] }.orEmpty() }
    fun starts(lengths: List<Int>) = ints(lengths.runningFold(0, Int::plus))
    val parts = mapOf(
        "spellings" to ids.flatMap { tokens[it]?.asList().orEmpty() }.toByteArray(),
        "starts" to starts(ids.map { tokens[it]?.size ?: 0 }),
        "merges" to starts(pairs.map { it.size }),
        "cuts" to ints(pairs.flatten().map { it.first }),
        "ranks" to ints(pairs.flatten().map { it.second }),
    )
    var end = 0
    val header = parts.entries.joinToString(", ", "{", "}") { (name, bytes) ->
        val (dtype, width) = if (name == "spellings") "U8" to 1 else "I32" to 4
        val start = end
        end += bytes.size
        "\"$name\": {\"dtype\": \"$dtype\", \"shape\": [${bytes.size / width}], \"data_offsets\": [$start, $end]}"
    }.let { it.padEnd((it.length + 7) / 8 * 8) }
    val length = ByteBuffer.allocate(8).order(ByteOrder.LITTLE_ENDIAN).putLong(header.length.toLong()).array()
    return File(folder, "vocabulary.safetensors").also { it.writeBytes(length + header.toByteArray() + parts.values.reduce(ByteArray::plus)) }
}

private fun ints(values: List<Int>): ByteArray =
    ByteBuffer.allocate(4 * values.size).order(ByteOrder.LITTLE_ENDIAN).also { values.forEach(it::putInt) }.array()

/** These tokens, their ids in this order, and every merge of two to a third, by its id. */
internal fun vocabularyOf(folder: File, spellings: List<String>): Vocabulary {
    val merges = spellings.flatMap { token -> (1 until token.length).map { token.take(it) to token.drop(it) } }
    val known = merges.filter { (first, second) -> first in spellings && second in spellings }
    return Vocabulary(writeVocabulary(folder, spellings.withIndex().associate { it.index to it.value.toByteArray() }, known))
}

/** A template in the manner of ChatML, with a system's turn where the conversation has none, that trims what the user says. */
internal const val CHAT = """{
    "turns": {
        "user": {"before": {"": "<s>S: be kind\nU: ", "assistant": "U: ", "system": "U: "}, "after": "\n", "trim": "blanks"},
        "assistant": {"before": {"user": "A: "}, "after": "</s>\n", "trim": ""},
        "system": {"before": {"": "<s>S: "}, "after": "\n", "trim": "", "last": false}
    },
    "prompt": "A: ", "skip": 3, "marked": null
}"""
