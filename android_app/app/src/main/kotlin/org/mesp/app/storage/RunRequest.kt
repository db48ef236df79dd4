package org.mesp.app.storage

import android.content.Context
import android.content.Intent
import java.io.File
import kotlinx.serialization.SerializationException
import kotlinx.serialization.json.Json
import kotlinx.serialization.json.JsonObject
import kotlinx.serialization.json.JsonPrimitive
import kotlinx.serialization.json.boolean
import kotlinx.serialization.json.buildJsonObject
import kotlinx.serialization.json.int
import kotlinx.serialization.json.jsonObject
import kotlinx.serialization.json.jsonPrimitive
import kotlinx.serialization.json.put
import org.mesp.app.R
import org.mesp.app.phone.BatteryRule
import org.mesp.app.state.text
import org.mesp.core.UsageException
import org.mesp.core.training.TrainSettings

/**
 * What a run is started with, by the screen and by a harness alike; each is an extra of the intent, by its name in snake case.
 *
 * @param bundle its folder, and [data] the rows, both paths as [Folders.below] takes them
 * @param output the run's name
 * @param settings TrainSettings as JSON, without its data
 * @param pauseBelowPercent of the battery the run waits for a charger; 0 for never
 * @param resume go on with the run of that name; bundle, data and settings are then those it began with, if they are left out
 */
data class RunRequest(
    val bundle: String,
    val data: String,
    val output: String,
    val settings: JsonObject = JsonObject(emptyMap()),
    val onlyWhileCharging: Boolean = false,
    val pauseBelowPercent: Int = BatteryRule.USUAL_PERCENT,
    val resume: Boolean = false,
) {
    /** Puts all of it into an intent, for [of] to read. */
    fun putInto(intent: Intent): Intent =
        intent
            .putExtra("bundle", bundle)
            .putExtra("data", data)
            .putExtra("output", output)
            .putExtra("settings", settings.toString())
            .putExtra("only_while_charging", onlyWhileCharging)
            .putExtra("pause_below_percent", pauseBelowPercent)
            .putExtra("resume", resume)

    /** The settings with their paths made whole. */
    fun trainSettings(context: Context): TrainSettings {
        val files = listOf("eval_data", "adapter").filter { settings[it] is JsonPrimitive && settings.text(it) != null }
        val paths = files.associateWith { JsonPrimitive(file(context, settings.text(it)!!, it).path) }
        // A harness and the screen may choose; without a choice, a phone takes its own default.
        val sequences = JsonPrimitive(TrainSettings.EVAL_SEQUENCES_ON_PHONE)
        val whole = mapOf("eval_sequences" to sequences) + settings + paths + ("data" to JsonPrimitive(file(context, data, "data").path))
        return try {
            Json.decodeFromJsonElement(TrainSettings.serializer(), JsonObject(whole))
        } catch (error: SerializationException) {
            throw UsageException(context.getString(R.string.settings_unreadable, error.message), error)
        }
    }

    /** All that the run reads. */
    val paths: List<String> get() = listOfNotNull(bundle, data, settings.text("eval_data"), settings.text("adapter"))

    fun bundleFolder(context: Context): File = file(context, bundle, "bundle")

    fun runFolder(context: Context) = File(Folders.of(context).runs, output)

    fun toJson(): JsonObject = buildJsonObject {
        put("bundle", bundle)
        put("data", data)
        put("output", output)
        put("settings", settings)
        put("only_while_charging", onlyWhileCharging)
        put("pause_below_percent", pauseBelowPercent)
    }

    private fun file(context: Context, path: String, what: String): File {
        val file = Folders.of(context).below(path) ?: throw UsageException(context.getString(R.string.path_outside, what, path))
        if (!file.exists()) throw UsageException(context.getString(R.string.file_missing, what, path))
        return file
    }

    companion object {
        /**
         * @throws UsageException an extra is missing or cannot be read
         */
        fun of(context: Context, intent: Intent): RunRequest {
            val output = intent.getStringExtra("output") ?: missing(context, "output")
            if (!Folders.isName(output)) throw UsageException(context.getString(R.string.output_no_name, output))
            val resume = intent.getBooleanExtra("resume", false)
            val before = if (resume) Requests(context).read(output) else null
            val percent = intent.getIntExtra("pause_below_percent", before?.pauseBelowPercent ?: BatteryRule.USUAL_PERCENT)
            if (percent !in BatteryRule.PERCENTS) throw UsageException(context.getString(R.string.pause_below_wrong))
            return RunRequest(
                intent.getStringExtra("bundle") ?: before?.bundle ?: missing(context, "bundle"),
                intent.getStringExtra("data") ?: before?.data ?: missing(context, "data"),
                output,
                intent.getStringExtra("settings")?.let { parse(context, it) } ?: before?.settings ?: JsonObject(emptyMap()),
                intent.getBooleanExtra("only_while_charging", before?.onlyWhileCharging ?: false),
                percent,
                resume,
            )
        }

        fun fromJson(json: JsonObject) =
            RunRequest(
                json.text("bundle")!!,
                json.text("data")!!,
                json.text("output")!!,
                json.getValue("settings").jsonObject,
                json.getValue("only_while_charging").jsonPrimitive.boolean,
                json.getValue("pause_below_percent").jsonPrimitive.int,
                resume = true,
            )

        private fun parse(context: Context, text: String) =
            try {
                Json.parseToJsonElement(text).jsonObject
            } catch (error: IllegalArgumentException) { // no JSON, or no object
                throw UsageException(context.getString(R.string.settings_unreadable, error.message), error)
            }

        private fun missing(context: Context, extra: String): Nothing =
            throw UsageException(context.getString(R.string.extra_missing, extra))
    }
}
