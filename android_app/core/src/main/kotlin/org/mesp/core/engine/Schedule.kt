package org.mesp.core.engine

import kotlinx.serialization.DeserializationStrategy
import kotlinx.serialization.KSerializer
import kotlinx.serialization.SerialName
import kotlinx.serialization.Serializable
import kotlinx.serialization.json.JsonContentPolymorphicSerializer
import kotlinx.serialization.json.JsonElement
import kotlinx.serialization.json.JsonPrimitive
import kotlinx.serialization.json.jsonObject
import org.mesp.core.UsageException

// A schedule is the list of instructions that makes up a training step. It is all that a runtime has to interpret.
// runtime/engine/schedule.py says what each instruction means. The export has checked that they fit the bundle's programs and tensors.

/** Shape and dtype of a tensor. */
@Serializable
data class TensorSpec(val shape: List<Int>, val dtype: String = "float32") {
    val elements: Int get() = shape.fold(1, Int::times)
    val bytes: Long get() = elements.toLong() * itemBytes(dtype)
}

/** Bytes of an element. */
fun itemBytes(dtype: String): Int =
    when (dtype) {
        "float32" -> 4
        "float16", "bfloat16" -> 2
        "int8", "uint8" -> 1
        "int32" -> 4
        "int64" -> 8
        else -> throw UsageException("The bundle has a tensor of dtype $dtype, which this version does not know. Update the app.")
    }

/** Where a call or a let takes its memory from: a value, or a contiguous part of a tensor or of a value. */
@Serializable(with = SourceSerializer::class)
sealed interface Source

/** A value by its name. */
@Serializable(with = NamedSerializer::class)
data class Named(val value: String) : Source

/** A part of a tensor that starts at [offset] plus [strides]`[v]` for each loop variable v, in elements. */
@Serializable
data class Reference(val tensor: String, val offset: Long, val strides: Map<String, Long>) : Source

/** A part of a value, as [Reference] is of a tensor. */
@Serializable
data class Part(val value: String, val offset: Long, val strides: Map<String, Long>) : Source

@Serializable(with = InstructionSerializer::class)
sealed interface Instruction

/** Runs a program; its results become values. */
@Serializable
data class Call(@SerialName("call") val program: String, val inputs: List<Source>, val outputs: List<String>) : Instruction

/** Names a part of a tensor, another value, or a part of one. */
@Serializable
data class Let(
    @SerialName("let") val value: String,
    @SerialName("be") val source: Source,
    val shape: List<Int>,
    val dtype: String,
) : Instruction {
    val spec get() = TensorSpec(shape, dtype)
}

/** Copies a value into a part of a tensor. */
@Serializable
data class Store(@SerialName("store") val value: String, @SerialName("to") val reference: Reference) : Instruction

/** Fills a part of a tensor with random signs, from number strides[v] * v on for each loop variable v. */
@Serializable
data class Draw(
    @SerialName("draw") val reference: Reference,
    val seed: String,
    val strides: Map<String, Long>,
    val shape: List<Int>,
    val dtype: String,
) : Instruction {
    val spec get() = TensorSpec(shape, dtype)
}

/** Runs [body] for variable = first .. first + count - 1, or in reverse. */
@Serializable
data class For(
    @SerialName("for") val variable: String,
    val first: Int,
    val count: Int,
    val reverse: Boolean,
    val body: List<Instruction>,
) : Instruction

/** Names what [body] does, for the memory samples. */
@Serializable
data class Phase(@SerialName("phase") val name: String, val body: List<Instruction>) : Instruction

/** The instructions and those inside of them. */
fun List<Instruction>.walk(): Sequence<Instruction> =
    asSequence().flatMap {
        when (it) {
            is For -> sequenceOf(it) + it.body.walk()
            is Phase -> sequenceOf(it) + it.body.walk()
            else -> sequenceOf(it)
        }
    }

/** The tensors that the instructions refer to. */
fun List<Instruction>.tensors(): Set<String> =
    walk()
        .flatMap {
            when (it) {
                is Call -> it.inputs.filterIsInstance<Reference>().map(Reference::tensor)
                is Let -> listOfNotNull((it.source as? Reference)?.tensor)
                is Store -> listOf(it.reference.tensor)
                is Draw -> listOf(it.reference.tensor, it.seed)
                else -> emptyList()
            }
        }.toSet()

// --- JSON: an instruction is known by its first key ---------------------------------------------------------------------

internal object InstructionSerializer : JsonContentPolymorphicSerializer<Instruction>(Instruction::class) {
    private val kinds: Map<String, KSerializer<out Instruction>> =
        mapOf(
            "call" to Call.serializer(),
            "let" to Let.serializer(),
            "store" to Store.serializer(),
            "draw" to Draw.serializer(),
            "for" to For.serializer(),
            "phase" to Phase.serializer(),
        )

    override fun selectDeserializer(element: JsonElement): DeserializationStrategy<Instruction> =
        kinds.entries.firstOrNull { it.key in element.jsonObject }?.value
            ?: throw UsageException("The schedule has an instruction that this version does not know: ${element.jsonObject.keys}. Update the app.")
}

internal object SourceSerializer : JsonContentPolymorphicSerializer<Source>(Source::class) {
    override fun selectDeserializer(element: JsonElement): DeserializationStrategy<Source> =
        when {
            element is JsonPrimitive -> Named.serializer()
            "value" in element.jsonObject -> Part.serializer()
            else -> Reference.serializer()
        }
}

internal object NamedSerializer : KSerializer<Named> {
    override val descriptor = kotlinx.serialization.descriptors.PrimitiveSerialDescriptor("Named", kotlinx.serialization.descriptors.PrimitiveKind.STRING)

    override fun deserialize(decoder: kotlinx.serialization.encoding.Decoder) = Named(decoder.decodeString())

    override fun serialize(encoder: kotlinx.serialization.encoding.Encoder, value: Named) = encoder.encodeString(value.value)
}
