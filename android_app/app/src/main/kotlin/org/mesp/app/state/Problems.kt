package org.mesp.app.state

import android.content.Context
import kotlinx.serialization.SerializationException
import kotlinx.serialization.json.Json
import kotlinx.serialization.json.JsonObject
import kotlinx.serialization.json.JsonPrimitive
import org.mesp.app.R
import org.mesp.app.phone.BatteryRule
import org.mesp.core.UsageException
import org.mesp.core.training.TrainSettings

/** What is wrong with a form: by field where it is one's, else for the whole. */
data class Problems(val fields: Map<Field, String> = emptyMap(), val form: String? = null) {
    val none get() = fields.isEmpty() && form == null

    companion object {
        /** The numbers are judged by TrainSettings itself, so the screen and the command line agree. */
        fun of(context: Context, form: Form): Problems {
            val typed = Field.entries.filter { form.isNoNumber(it) }
            if (typed.isNotEmpty()) {
                return Problems(
                    typed.associateWith { context.getString(if (it.whole) R.string.no_whole_number else R.string.no_number) }
                )
            }
            if (form.pauseBelowPercent !in BatteryRule.PERCENTS) {
                return Problems(mapOf(Field.BATTERY to context.getString(R.string.pause_below_wrong)))
            }
            if (form.bundle == null) return Problems(form = context.getString(R.string.choose_bundle_first))
            if (form.data == null) return Problems(form = context.getString(R.string.choose_data_first))
            val settings = JsonObject(form.settings() + ("data" to JsonPrimitive(form.data)))
            return try {
                Json.decodeFromJsonElement(TrainSettings.serializer(), settings)
                Problems()
            } catch (error: UsageException) {
                atField(error.message.orEmpty())
            } catch (error: SerializationException) {
                Problems(form = error.message)
            }
        }

        /** TrainSettings begins a message with the name of the setting that it is about. */
        private fun atField(message: String): Problems {
            val field = Field.entries.find { message.startsWith("${it.key} ") }
            return if (field == null) Problems(form = message) else Problems(mapOf(field to message.removePrefix("${field.key} ")))
        }
    }
}
