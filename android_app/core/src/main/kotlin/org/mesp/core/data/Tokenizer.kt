package org.mesp.core.data

import java.io.ByteArrayOutputStream
import java.io.File
import java.io.IOException
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
    val generation: GenerationTokens? = null,
)

/** Tokens that end a text which a model writes, and those that are left out of it. */
@Serializable
internal class GenerationTokens(val stops: List<Int>, val hidden: List<Int>)

/**
 * How a BPE tokenizer works, beside its vocabulary.
 *
 * @param unsupported why it cannot be reproduced here, if it cannot
 * @param splits regular expressions: each cuts the pieces that the one before leaves into what it matches and what is between
 * @param letters what `\p{L}` is to the original, in ranges of code points; [numbers] `\p{N}`; [spaces] `\s`;
 *   [digits] are digits to it, but no `\p{N}`
 * @param nfc whether text is brought into Unicode's normalization form C
 * @param space what is written for a space, if not itself
 * @param fallback the ids of the 256 bytes, for characters that are no tokens; null where words are made of bytes to begin with
 * @param whole whether a word that is a token is not merged
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
    val space: String? = null,
    val fallback: List<Int>? = null,
    val whole: Boolean = false,
    val special: Map<String, Int> = emptyMap(),
    val before: List<Int> = emptyList(),
    val after: List<Int> = emptyList(),
    val end: Int? = null,
    @SerialName("trim_offsets") val trimOffsets: Boolean = false,
)

private const val FORMAT_VERSION = 3

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
    return Tokenizer(mobile.tokenizer, Vocabulary(File(folder, "vocabulary.safetensors")), mobile.chat, mobile.generation)
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

/** Told a token: its id, and the code points that it stands for, from [start] to before [end]. */
internal typealias Receiver = (id: Int, start: Int, end: Int) -> Unit

/**
 * A BPE tokenizer that gives the ids of the Hugging Face tokenizer that the bundle was exported with.
 *
 * Text is cut at special tokens, normalized, cut into words by the tokenizer's expressions ([Splitter]), and the bytes or characters of each
 * word are merged ([Merger]). The text may come in parts, so that of a long one only the part that is under way is in memory.
 *
 * The expressions do not see the text. Each character is replaced by one that stands for its class. So it does not matter what Java's or
 * Android's regular expressions know of Unicode.
 */
class Tokenizer internal constructor(
    internal val description: TokenizerDescription,
    private val vocabulary: Vocabulary,
    /** How conversations are written; null without a chat template. */
    val chat: ChatTemplate?,
    private val generation: GenerationTokens? = null,
) {
    /** The token that ends a text, if there is one. */
    val end: Int? = description.end

    /** How many ids it has. */
    val tokens: Int get() = maxOf(vocabulary.size, (description.special.values.maxOrNull() ?: -1) + 1)

    internal val classes = CharacterClasses(description)
    internal val specials = Specials(description.special)
    internal val bytes = (-128..127).map(Int::toByte).filter { vocabulary.find(byteArrayOf(it), 0, 1) != NONE }.toSet()
    internal val merger = Merger(vocabulary, description.fallback?.toIntArray(), description.whole)
    private val encoder = Encoder(this)
    private val specialOf = description.special.entries.associate { (text, id) -> id to text }
    private val byteOf = description.fallback.orEmpty().withIndex().associate { (byte, id) -> id to byte }

    /** The ids of a text with the special tokens that the tokenizer adds, as Hugging Face's `tokenizer(text)`. */
    fun ids(text: String): IntArray {
        val ids = Ints()
        allIds({ receive -> inParts(text, receive) }, ids::add)
        return ids.toArray()
    }

    /** Tells these ids of a text that comes in parts: [parts] is given what takes each. */
    internal fun allIds(parts: ((String) -> Unit) -> Unit, receive: (Int) -> Unit) {
        description.before.forEach(receive)
        encode(parts) { id, _, _ -> receive(id) }
        description.after.forEach(receive)
    }

    /**
     * The tokens of a text alone. Text that spells a special token becomes that token, the earliest and longest first.
     *
     * @throws UsageException the vocabulary lacks a part of a character
     */
    fun encode(text: String): Tokens {
        val ids = Ints()
        val starts = Ints()
        val ends = Ints()
        encode({ receive -> inParts(text, receive) }) { id, start, end ->
            ids.add(id)
            starts.add(start)
            ends.add(end)
        }
        return Tokens(ids.toArray(), starts.toArray(), ends.toArray())
    }

    /** The text of these ids, special tokens in it, as Hugging Face's `decode` without its clean-up. What is no UTF-8 becomes U+FFFD. */
    fun decode(ids: IntArray): String {
        val text = ByteArrayOutputStream()
        for (id in ids) text.write(spelling(id))
        return text.toByteArray().decodeToString()
    }

    /**
     * The tokens that end a text which a model writes: those of its settings of generation, of the tokenizer and of the chat template.
     *
     * @throws UsageException the bundle does not say, since it was exported by an earlier mesp
     */
    fun stops(): Set<Int> = generationTokens().stops.toSet()

    /** The tokens that are left out of a text which a model writes. As [stops]. */
    internal fun hidden(): Set<Int> = generationTokens().hidden.toSet()

    private fun generationTokens() =
        generation ?: throw UsageException("the bundle does not say where a text ends. Export the bundle again, with this mesp.")

    /** A token's bytes, and none of an id that the tokenizer does not have: a model may have more rows than it has tokens. */
    internal fun spelling(id: Int): ByteArray {
        byteOf[id]?.let { return byteArrayOf(it.toByte()) }
        val spelled = specialOf[id]?.toByteArray() ?: if (id < vocabulary.size) vocabulary.spelling(id) else ByteArray(0)
        return if (description.space == null) spelled else spelled.decodeToString().replace(description.space, " ").toByteArray()
    }

    private fun encode(parts: ((String) -> Unit) -> Unit, receive: Receiver) {
        encoder.begin(receive)
        parts(encoder::add)
        encoder.finish()
    }
}

/** A text in parts that are short beside a long text. */
internal fun inParts(text: String, receive: (String) -> Unit) {
    for (start in text.indices step PART) receive(text.substring(start, minOf(start + PART, text.length)))
}

private const val PART = 8192
