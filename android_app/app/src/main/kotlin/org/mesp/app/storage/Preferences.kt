package org.mesp.app.storage

import android.content.Context
import kotlinx.serialization.SerializationException
import kotlinx.serialization.builtins.MapSerializer
import kotlinx.serialization.builtins.serializer
import kotlinx.serialization.json.Json
import org.mesp.app.state.Form
import org.mesp.app.state.Pace

/** What is remembered from one start of the app to the next: the form, and the runs that the person does not want to resume. */
class Preferences(context: Context) {
    private val values = context.getSharedPreferences("mesp", Context.MODE_PRIVATE)

    var form: Form
        get() = Form.fromJson(values.getString("form", null))
        set(form) = values.edit().putString("form", form.toJson()).apply()

    /** How fast each bundle, by its name, was last. */
    var paces: Map<String, Pace>
        get() =
            try {
                values.getString("paces", null)?.let { Json.decodeFromString(PACES, it) }.orEmpty()
            } catch (_: SerializationException) { // of another version
                emptyMap()
            }
        set(paces) = values.edit().putString("paces", Json.encodeToString(PACES, paces)).apply()

    val forgotten: Set<String> get() = values.getStringSet("forgotten", emptySet()).orEmpty()

    fun forget(run: String) = values.edit().putStringSet("forgotten", forgotten + run).apply()

    /** Whether the texts that earlier versions kept in external storage are in the app's own. */
    var textsTakenIn: Boolean
        get() = values.getBoolean("texts_taken_in", false)
        set(taken) = values.edit().putBoolean("texts_taken_in", taken).apply()

    /** Whether the permission for notifications was asked for: a second time would only annoy. */
    var askedForNotifications: Boolean
        get() = values.getBoolean("asked_for_notifications", false)
        set(asked) = values.edit().putBoolean("asked_for_notifications", asked).apply()

    private companion object {
        val PACES = MapSerializer(String.serializer(), Pace.serializer())
    }
}
