package org.mesp.core.training

import java.io.File
import java.io.IOException
import java.nio.FloatBuffer
import kotlin.math.sqrt
import kotlinx.serialization.SerializationException
import kotlinx.serialization.json.JsonArray
import kotlinx.serialization.json.JsonElement
import kotlinx.serialization.json.JsonNull
import kotlinx.serialization.json.JsonObject
import kotlinx.serialization.json.JsonPrimitive
import kotlinx.serialization.json.booleanOrNull
import kotlinx.serialization.json.buildJsonObject
import kotlinx.serialization.json.contentOrNull
import kotlinx.serialization.json.doubleOrNull
import kotlinx.serialization.json.intOrNull
import kotlinx.serialization.json.jsonObject
import kotlinx.serialization.json.put
import org.mesp.core.JSON
import org.mesp.core.UsageException
import org.mesp.core.engine.FLOATS
import org.mesp.core.engine.Lora
import org.mesp.core.engine.TensorPart
import org.mesp.core.engine.readLayout
import org.mesp.core.engine.readTensors
import org.mesp.core.engine.writeTensors
import org.mesp.core.reason
import org.mesp.core.writeJson

// Adapters in PEFT's format, in and out. In memory the adapter is one tensor, in which the manifest says where each of its A's [in, rank] and
// B's [out, rank] is, what PEFT calls it, and whether PEFT's file has it transposed.

const val ADAPTER_CONFIG = "adapter_config.json"
const val ADAPTER_WEIGHTS = "adapter_model.safetensors"

// PEFT's own format of before, which can run code when it is read.
private const val OLD_WEIGHTS = "adapter_model.bin"

/** Which options of adapters can be trained on, as runtime/contract/adapters.json. Another is refused, unless it is off. */
internal object AdapterOptions {
    val READ = setOf("r", "lora_alpha", "use_rslora", "base_model_name_or_path", "peft_type", "bias", "init_lora_weights")
    val WITHOUT_EFFECT =
        setOf(
            "auto_mapping", "corda_config", "eva_config", "inference_mode", "loftq_config", "lora_dropout", "lora_ga_config", "megatron_config",
            "megatron_core", "peft_version", "qalora_group_size", "revision", "runtime_config", "task_type",
        )
    val PLACES = setOf("ensure_weight_tying", "exclude_modules", "layers_pattern", "layers_to_transform", "target_modules")
    val LEAVES_WEIGHTS = setOf("true", "false", "gaussian", "orthogonal", "eva")
    const val NOT_IN_NAMES =
        "^meta-(?=llama)|([.\\-_](i?q\\d(_[0-9a-z]+)*|(bf|fp|f)(16|32)|int[48]|[48]bit|bnb|awq|gptq|gguf|unsloth|ud))+$"
}

/** What an adapter is scaled by: alpha / rank, or alpha / sqrt(rank) for rsLoRA (Kalajdzievski, 2023). */
data class Scaling(val alpha: Double, val rslora: Boolean = false) {
    fun at(rank: Int): Double = alpha / if (rslora) sqrt(rank.toDouble()) else rank.toDouble()
}

/** The adapter's tensors under PEFT's names and in its shapes, in place. */
private fun named(lora: Lora, adapter: FloatBuffer): Map<String, TensorPart> =
    lora.tensors.associate { it.name to TensorPart(adapter, it.offset, it.shape, it.transposed) }

/**
 * Reads a safetensors file of PEFT's names into the adapter, which changes only if all of it fits.
 *
 * @throws UsageException the file is not whole, or holds other tensors than this bundle trains
 */
fun readAdapter(file: File, lora: Lora, adapter: FloatBuffer) {
    if (!file.exists() && File(file.parentFile, OLD_WEIGHTS).exists()) {
        throw UsageException("${file.parent} has its tensors in PyTorch's own format. Convert them on a computer: mesp train --adapter says how.")
    }
    val layout = readLayout(file)
    val places = named(lora, adapter)
    if (layout.keys != places.keys) {
        val missing = (places.keys - layout.keys).sorted()
        val extra = (layout.keys - places.keys).sorted()
        val parts =
            listOfNotNull(
                missing.firstOrNull()?.let { "${missing.size} missing, such as $it" },
                extra.firstOrNull()?.let { "${extra.size} that it does not train, such as $it" },
            )
        throw UsageException("$file is an adapter of other projections or layers: ${parts.joinToString("; ")}.")
    }
    for ((name, place) in places) {
        val spec = layout.getValue(name).spec
        if (spec.shape != place.shape || spec.dtype !in FLOATS) {
            throw UsageException("$file: $name is ${spec.shape} of ${spec.dtype}, but this bundle's is ${place.shape} of ${FLOATS.joinToString(" or ")}.")
        }
    }
    readTensors(file, layout, places)
}

/** Writes into a folder what peft.PeftModel.from_pretrained loads. */
internal fun writePeft(folder: File, lora: Lora, adapter: FloatBuffer, scaling: Scaling, baseModel: String) {
    writeTensors(File(folder, ADAPTER_WEIGHTS), named(lora, adapter), mapOf("format" to "pt"))
    val config =
        buildJsonObject {
            put("peft_type", "LORA")
            put("task_type", "CAUSAL_LM")
            put("base_model_name_or_path", baseModel)
            put("r", lora.rank)
            put("lora_alpha", scaling.alpha)
            put("target_modules", JsonArray(lora.targets.map(::JsonPrimitive)))
            put("layers_to_transform", lora.layersToTransform?.let { layers -> JsonArray(layers.map(::JsonPrimitive)) } ?: JsonNull)
            put("lora_dropout", 0.0)
            put("bias", "none")
            put("fan_in_fan_out", false)
            put("use_rslora", scaling.rslora)
            put("use_dora", false)
            put("modules_to_save", JsonNull)
            put("inference_mode", true)
        }
    writeJson(File(folder, ADAPTER_CONFIG), config)
}

/**
 * Reads a PEFT adapter folder into the adapter and returns its scaling.
 *
 * @param baseModel the origin of the model that it must have been made for; null takes any
 * @throws UsageException no adapter, one of another rank, of other targets or another model, or of a kind that these programs do not compute
 */
fun readPeft(folder: File, lora: Lora, adapter: FloatBuffer, baseModel: String? = null): Scaling {
    val file = File(folder, ADAPTER_CONFIG)
    val config =
        try {
            JSON.parseToJsonElement(file.readText()).jsonObject
        } catch (error: IOException) {
            throw UsageException("$folder is not a PEFT adapter: $ADAPTER_CONFIG cannot be read (${reason(error)}).", error)
        } catch (error: SerializationException) {
            throw UsageException("$folder is not a PEFT adapter: $ADAPTER_CONFIG is not JSON.", error)
        }
    checkPlain(file, config)
    val rank = (config["r"] as? JsonPrimitive)?.intOrNull
    if (rank != lora.rank) throw UsageException("$file: rank $rank, but this bundle was exported with rank ${lora.rank}. Export with --rank $rank.")
    val base = config.text("base_model_name_or_path")
    if (baseModel != null && !sameBase(base, baseModel)) {
        throw UsageException(
            "$folder is an adapter of $base, but this bundle is of $baseModel. " +
                "If they are the same weights under two names, set allow_other_base.",
        )
    }
    readAdapter(File(folder, ADAPTER_WEIGHTS), lora, adapter)
    val alpha = config.text("lora_alpha")?.toDoubleOrNull() ?: throw UsageException("$file has no lora_alpha.")
    return Scaling(alpha, (config["use_rslora"] as? JsonPrimitive)?.booleanOrNull ?: false)
}

private fun checkPlain(file: File, config: JsonObject) {
    val type = config.text("peft_type")
    if (type != "LORA") throw UsageException("$file: the adapter's peft_type is $type; expected LORA.")
    val bias = config.text("bias") ?: "none"
    if (bias != "none") throw UsageException("$file: bias is $bias: biases are not trained. $MERGE_FIRST")
    val initial = config.text("init_lora_weights") ?: "true"
    if (initial !in AdapterOptions.LEAVES_WEIGHTS) {
        throw UsageException(
            "$file: init_lora_weights is $initial, by which the model's own weights were changed too. Convert it in PEFT: " +
                "save_pretrained(..., path_initial_model_for_weight_conversion=...).",
        )
    }
    val known = AdapterOptions.READ + AdapterOptions.WITHOUT_EFFECT + AdapterOptions.PLACES
    val refused = config.filter { (name, value) -> name !in known && isSet(value) }.toSortedMap()
    if (refused.isNotEmpty()) {
        val names = refused.entries.take(3).joinToString { (name, value) -> "$name = $value" }
        throw UsageException("$file has options for which it cannot be trained on: $names. $MERGE_FIRST")
    }
}

private const val MERGE_FIRST = "Put it into its model on a computer (mesp merge), and export and train that; or use an adapter without them."

private fun isSet(value: JsonElement?): Boolean =
    when (value) {
        null, JsonNull -> false
        is JsonPrimitive -> value.booleanOrNull ?: if (value.isString) value.content.isNotEmpty() else value.doubleOrNull != 0.0
        is JsonArray -> value.isNotEmpty()
        is JsonObject -> value.isNotEmpty()
    }

private fun JsonObject.text(name: String): String? = (this[name] as? JsonPrimitive)?.contentOrNull

/** Whether an adapter was made for a model, as far as names can say: `Qwen/Qwen2.5-0.5B` is `models/qwen2.5-0.5b-q8_0.gguf`. */
internal fun sameBase(nameOfAdapter: String?, origin: String): Boolean = nameOfAdapter.isNullOrEmpty() || modelName(nameOfAdapter) == modelName(origin)

private val NOT_IN_NAMES = Regex(AdapterOptions.NOT_IN_NAMES)
private val CACHED = Regex("/models--[^/]+--([^/]+)/snapshots/[^/]+$") // a Hub id in the Hub's cache

/** The last part of a path or Hub id, without what does not tell models apart. */
private fun modelName(name: String): String {
    val path = name.removeSuffix(" (random weights)").trimEnd('/')
    CACHED.find(path)?.let { return it.groupValues[1].lowercase() }
    return path.substringAfterLast('/').lowercase().removeSuffix(".gguf").replace(NOT_IN_NAMES, "")
}
