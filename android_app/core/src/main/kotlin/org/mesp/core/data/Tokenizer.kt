package org.mesp.core.data

import com.knuddels.jtokkit.Encodings
import com.knuddels.jtokkit.api.Encoding
import com.knuddels.jtokkit.api.GptBytePairEncodingParams
import com.knuddels.jtokkit.api.IntArrayList
import java.io.File
import java.io.IOException
import java.util.regex.Pattern
import kotlinx.serialization.ExperimentalSerializationApi
import kotlinx.serialization.SerialName
import kotlinx.serialization.Serializable
import kotlinx.serialization.SerializationException
import kotlinx.serialization.json.decodeFromStream
import org.mesp.core.JSON
import org.mesp.core.UsageException

/** Token ids, and the code points that each stands for, from [starts] to before [ends]: [n]. A part of a character has all of it. */
class Tokens(val ids: IntArray, val starts: IntArray, val ends: IntArray)

/** mobile.json, which `mesp export` writes beside tokenizer.json. */
@Serializable
internal class Mobile(
    @SerialName("format_version") val formatVersion: Int,
    val tokenizer: TokenizerDescription,
    val chat: ChatTemplate? = null,
)

/**
 * How a byte-level BPE tokenizer works, beside its vocabulary.
 *
 * @param unsupported why it cannot be reproduced here, if it cannot
 * @param splits regular expressions: each cuts the pieces that the one before leaves into what it matches and what is between
 * @param letters what `\p{L}` is to the original, in ranges of code points; [numbers] `\p{N}`; [spaces] `\s`;
 *   [digits] are digits to it, but no `\p{N}`
 * @param nfc whether text is brought into Unicode's normalization form C
 * @param special texts that are tokens of their own
 * @param before token ids that are put before a text, and [after] after it
 * @param end the token that ends a text
 * @param trimOffsets whether tokens' places leave spaces at their ends out
 */
@Serializable
internal class TokenizerDescription(
    val unsupported: String? = null,
    val splits: List<String> = emptyList(),
    val letters: String = "",
    val numbers: String = "",
    val digits: String = "",
    val spaces: String = "",
    val nfc: Boolean = false,
    val special: Map<String, Int> = emptyMap(),
    val before: List<Int> = emptyList(),
    val after: List<Int> = emptyList(),
    val end: Int? = null,
    @SerialName("trim_offsets") val trimOffsets: Boolean = false,
)

@Serializable
private class TokenizerFile(val model: Model)

@Serializable
private class Model(val vocab: Map<String, Int>)

private const val FORMAT_VERSION = 1

/**
 * Opens a bundle's tokenizer folder.
 *
 * @throws UsageException it is damaged, of another version of mesp, or a tokenizer that cannot be reproduced exactly
 */
fun openTokenizer(folder: File): Tokenizer {
    val file = File(folder, "mobile.json")
    if (!file.isFile) throw UsageException("the bundle's tokenizer has no ${file.name}. Export the bundle again, with this mesp.")
    val mobile: Mobile = decode(file)
    if (mobile.formatVersion != FORMAT_VERSION) {
        throw UsageException(
            "$file has version ${mobile.formatVersion}; this mesp reads $FORMAT_VERSION. Export the bundle again, or update mesp.",
        )
    }
    mobile.tokenizer.unsupported?.let {
        throw UsageException(
            "this bundle's tokenizer cannot be reproduced on a phone: $it. " +
                "Train on {\"input_ids\", \"labels\"} rows, tokenized on a computer.",
        )
    }
    val vocabulary = decode<TokenizerFile>(File(folder, "tokenizer.json")).model.vocab
    return Tokenizer(mobile.tokenizer, vocabulary - mobile.tokenizer.special.keys, mobile.chat)
}

@OptIn(ExperimentalSerializationApi::class)
private inline fun <reified T> decode(file: File): T {
    try {
        return file.inputStream().buffered().use { JSON.decodeFromStream<T>(it) }
    } catch (error: SerializationException) {
        throw UsageException("$file is damaged (${error.message?.lineSequence()?.first()}). Export the bundle again.", error)
    } catch (error: IOException) {
        throw UsageException("$file cannot be read (${error.message}). Export the bundle again.", error)
    }
}

/**
 * A byte-level BPE tokenizer that gives the ids of the Hugging Face tokenizer that the bundle was exported with.
 *
 * Text is cut at special tokens, normalized, and cut into words by the tokenizer's expressions. Then jtokkit merges the bytes of each word: it
 * takes the pair whose token has the lowest id. That is the order of the merges, as export has checked.
 *
 * The expressions do not see the text. Each character is replaced by one that stands for its class. So it does not matter what Java's or
 * Android's regular expressions know of Unicode.
 */
class Tokenizer internal constructor(
    private val description: TokenizerDescription,
    vocabulary: Map<String, Int>,
    /** How conversations are written; null without a chat template. */
    val chat: ChatTemplate?,
) {
    /** The token that ends a text, if there is one. */
    val end: Int? = description.end

    private val splits = description.splits.map { Pattern.compile(it, Pattern.UNICODE_CASE) }
    private val classes = CharacterClasses(description)
    private val special = description.special.keys.sortedByDescending { it.length }
    private val specialStarts = special.map { it[0] }.toSet()
    private val ranks = byteRanks(vocabulary)
    private val lengths = IntArray(ranks.values.max() + 1).also { for ((bytes, id) in ranks) it[id] = bytes.size }
    private val bytes = ranks.keys.filter { it.size == 1 }.map { it[0] }.toSet()
    private val merger = merger(ranks)

    /** The ids of a text with the special tokens that the tokenizer adds, as Hugging Face's `tokenizer(text)`. */
    fun ids(text: String): IntArray =
        (description.before + encode(text).ids.asList() + description.after).toIntArray()

    /**
     * The tokens of a text alone. Text that spells a special token becomes that token, the earliest and longest first.
     *
     * @throws UsageException the vocabulary lacks a part of a character
     */
    fun encode(text: String): Tokens {
        val tokens = TokenList()
        var from = 0
        var points = 0 // code points before it
        while (true) {
            val (at, found) = nextSpecial(text, from)
            ordinary(text.substring(from, at), points, tokens)
            points += text.codePointCount(from, at)
            if (found == null) return tokens.toTokens()
            val length = found.codePointCount(0, found.length)
            tokens.add(description.special.getValue(found), points, points + length)
            points += length
            from = at + found.length
        }
    }

    private fun nextSpecial(text: String, from: Int): Pair<Int, String?> {
        for (at in from until text.length) {
            if (text[at] !in specialStarts) continue
            val found = special.firstOrNull { text.startsWith(it, at) }
            if (found != null) return Pair(at, found)
        }
        return Pair(text.length, null)
    }

    /** Adds the tokens of text without special ones, which begins at code point [base]. */
    private fun ordinary(text: String, base: Int, tokens: TokenList) {
        if (text.isEmpty()) return
        val points = if (description.nfc) composed(text) else asGiven(text)
        val standIns = String(CharArray(points.size) { classes.standIn(points.values[it]) })
        split(standIns, 0, standIns.length, 0) { start, end -> word(points, start, end, base, tokens) }
    }

    /** Cuts [start] to [end] with the expressions from number [level] on. An expression sees nothing beyond its piece. */
    private fun split(text: String, start: Int, end: Int, level: Int, receive: (Int, Int) -> Unit) {
        if (level == splits.size) return receive(start, end)
        val matcher = splits[level].matcher(text).region(start, end)
        var done = start
        while (matcher.find()) {
            if (matcher.start() > done) split(text, done, matcher.start(), level + 1, receive)
            if (matcher.end() > matcher.start()) split(text, matcher.start(), matcher.end(), level + 1, receive)
            done = matcher.end()
        }
        if (end > done) split(text, done, end, level + 1, receive)
    }

    private fun word(points: PlacedPoints, start: Int, end: Int, base: Int, tokens: TokenList) {
        val ids = merger.encodeOrdinary(withoutUnknown(String(points.values, start, end - start)))
        var bytes = 0 // of the word before this token
        var point = start // which has the byte
        var pointEnd = utf8Length(points.values[start])
        for (index in 0 until ids.size()) {
            val id = ids.get(index)
            while (pointEnd <= bytes) pointEnd += utf8Length(points.values[++point])
            val first = point
            bytes += lengths[id]
            while (pointEnd < bytes) pointEnd += utf8Length(points.values[++point])
            add(id, points, first, point + 1, base, tokens)
        }
    }

    private fun add(id: Int, points: PlacedPoints, start: Int, end: Int, base: Int, tokens: TokenList) {
        var (first, last) = Pair(base + points.places[start], base + points.places[end - 1] + 1)
        if (description.trimOffsets) {
            first = minOf(first + (start until end).takeWhile { points.values[it] == SPACE }.size, last)
            last = maxOf(last - (end - 1 downTo start).takeWhile { points.values[it] == SPACE }.size, first)
        }
        tokens.add(id, first, last)
    }

    /** The word without the characters whose bytes the vocabulary lacks, which Hugging Face drops. */
    private fun withoutUnknown(word: String): String {
        if (bytes.size == 256 || word.toByteArray().all { it in bytes }) return word
        val kept = StringBuilder()
        for (point in word.codePoints().toArray()) {
            val character = String(Character.toChars(point)).toByteArray()
            val lacking = character.count { it !in bytes }
            if (lacking == 0) kept.appendCodePoint(point)
            if (lacking in 1 until character.size) {
                val name = "U+%04X".format(point)
                throw UsageException("the tokenizer has no token for a part of the character $name. Remove it from the text.")
            }
        }
        return kept.toString()
    }
}

private const val SPACE = ' '.code

/** Lists of the same length that grow. */
private class TokenList {
    private val ids = IntArrayList()
    private val starts = IntArrayList()
    private val ends = IntArrayList()

    fun add(id: Int, start: Int, end: Int) {
        ids.add(id)
        starts.add(start)
        ends.add(end)
    }

    fun toTokens() = Tokens(ids.toArray(), starts.toArray(), ends.toArray())
}

private fun merger(ranks: Map<ByteArray, Int>): Encoding {
    val whole = Pattern.compile(".+", Pattern.DOTALL)
    val parameters = GptBytePairEncodingParams("bundle", whole, ranks, emptyMap())
    return Encodings.newLazyEncodingRegistry().registerGptBytePairEncoding(parameters).getEncoding(parameters.name).get()
}

/** tokenizer.json spells a byte as a character: itself where it is a visible one of Latin-1, else one from U+0100 on. */
private fun byteRanks(vocabulary: Map<String, Int>): Map<ByteArray, Int> {
    val (visible, others) = (0..255).partition { it in 33..126 || it in 161..172 || it in 174..255 }
    val byteOf = visible.associateBy { it.toChar() } + others.withIndex().associate { (index, byte) -> (256 + index).toChar() to byte }
    val ranks = HashMap<ByteArray, Int>() // by identity: each token is there once
    for ((token, id) in vocabulary) {
        if (token.all { it in byteOf }) ranks[ByteArray(token.length) { byteOf.getValue(token[it]).toByte() }] = id
    }
    return ranks
}

private fun utf8Length(point: Int) = if (point < 0x80) 1 else if (point < 0x800) 2 else if (point < 0x10000) 3 else 4
