package org.mesp.app.state

import java.util.Locale
import kotlinx.serialization.json.Json
import kotlinx.serialization.json.JsonObject
import kotlinx.serialization.json.JsonPrimitive
import kotlinx.serialization.json.boolean
import kotlinx.serialization.json.buildJsonObject
import kotlinx.serialization.json.jsonObject
import kotlinx.serialization.json.jsonPrimitive
import kotlinx.serialization.json.put
import org.mesp.app.R
import org.mesp.app.phone.BatteryRule
import org.mesp.core.training.TrainSettings

/**
 * A number of the settings; [key] is its name in TrainSettings, or in RunRequest where it is the app's own.
 *
 * @param about a line below its name
 * @param rare whether it is behind "More settings"
 * @param trains whether it is one of TrainSettings
 */
enum class Field(
    val key: String,
    val label: Int,
    val hint: Int,
    val about: Int? = null,
    val whole: Boolean = true,
    val rare: Boolean = true,
    val trains: Boolean = true,
) {
    STEPS("steps", R.string.steps, R.string.steps_hint, R.string.steps_about, rare = false),
    SPLIT("eval_split", R.string.split, R.string.split_hint, R.string.split_about, whole = false, rare = false),
    BATTERY("pause_below_percent", R.string.pause_below, R.string.pause_below_hint, R.string.pause_below_about, rare = false, trains = false),
    RATE("lr", R.string.rate, R.string.rate_hint, R.string.rate_about, whole = false),
    EVERY("eval_every", R.string.every, R.string.every_hint),
    WARMUP("warmup", R.string.warmup, R.string.warmup_hint, R.string.warmup_about, whole = false),
    ACCUMULATION("grad_accumulation", R.string.accumulation, R.string.accumulation_hint),
    CLIP("clip_norm", R.string.clip, R.string.clip_hint, whole = false),
    DECAY("weight_decay", R.string.decay, R.string.decay_hint, whole = false),
    CHECKPOINT("checkpoint_every", R.string.checkpoint_every, R.string.checkpoint_every_hint),
    THREADS("threads", R.string.threads, R.string.threads_hint),
}

/**
 * What the person chose, as it was typed.
 *
 * @param bundle and [data] names in the app's files
 * @param values the numbers; one that is missing or empty takes its default
 * @param findThreads whether the next run looks for the fastest number of threads first
 * @param showRare whether the rare settings are unfolded
 */
data class Form(
    val bundle: String? = null,
    val data: String? = null,
    val values: Map<Field, String> = mapOf(Field.STEPS to "60", Field.SPLIT to "0.1"),
    val optimizer: String = "adamw",
    val schedule: String = "constant",
    val onlyWhileCharging: Boolean = false,
    val findThreads: Boolean = false,
    val showRare: Boolean = false,
) {
    fun with(field: Field, text: String) = copy(values = values + (field to text))

    /** TrainSettings without its data; what is no number is left out, and told by [Problems.of]. */
    fun settings(locale: Locale = Locale.getDefault()): JsonObject = buildJsonObject {
        put("optimizer", optimizer)
        put("schedule", schedule)
        put("find_threads", findThreads)
        for (field in Field.entries.filter { it.trains }) number(field, locale)?.let { put(field.key, JsonPrimitive(it)) }
    }

    /** Below so much of the battery a run pauses. */
    val pauseBelowPercent: Int get() = number(Field.BATTERY, Locale.getDefault())?.toInt() ?: BatteryRule.USUAL_PERCENT

    fun isNoNumber(field: Field, locale: Locale = Locale.getDefault()) = typed(field).isNotEmpty() && number(field, locale) == null

    private fun number(field: Field, locale: Locale): Number? =
        TypedNumber(locale).let { if (field.whole) it.whole(typed(field)) else it.decimal(typed(field)) }

    private fun typed(field: Field) = values[field].orEmpty().trim()

    fun toJson(): String =
        buildJsonObject {
                put("bundle", bundle)
                put("data", data)
                put("optimizer", optimizer)
                put("schedule", schedule)
                put("only_while_charging", onlyWhileCharging)
                put("find_threads", findThreads)
                put("values", JsonObject(values.entries.associate { it.key.key to JsonPrimitive(it.value) }))
            }
            .toString()

    companion object {
        /** The defaults where there is nothing, or nothing that can be read. */
        fun fromJson(text: String?): Form =
            try {
                text?.let { read(Json.parseToJsonElement(it).jsonObject) } ?: Form()
            } catch (_: RuntimeException) {
                Form()
            }

        private fun read(json: JsonObject): Form {
            val values = json.getValue("values").jsonObject
            return Form(
                json.text("bundle"),
                json.text("data"),
                Field.entries.mapNotNull { field -> values.text(field.key)?.let { field to it } }.toMap(),
                json.text("optimizer").takeIf { it in TrainSettings.OPTIMIZERS } ?: "adamw",
                json.text("schedule").takeIf { it in TrainSettings.SCHEDULES } ?: "constant",
                json.getValue("only_while_charging").jsonPrimitive.boolean,
                json["find_threads"]?.jsonPrimitive?.boolean ?: false, // not in what an earlier version kept
            )
        }
    }
}
