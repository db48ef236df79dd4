package org.mesp.app.phone

import android.util.Log
import kotlinx.serialization.json.JsonObject
import kotlinx.serialization.json.JsonObjectBuilder
import kotlinx.serialization.json.buildJsonObject
import kotlinx.serialization.json.put

/** The app's lines in logcat, tag "mesp", each one JSON object with an "event": a harness follows a run by `adb logcat -s mesp`. */
object Logcat {
    const val TAG = "mesp"

    fun event(name: String, run: String?, fields: JsonObjectBuilder.() -> Unit = {}) = Log.i(TAG, line(name, run, fields))

    fun error(name: String, run: String?, reason: String, cause: Throwable? = null) =
        Log.e(TAG, line(name, run) { put("reason", reason) }, cause)

    private fun line(name: String, run: String?, fields: JsonObjectBuilder.() -> Unit): String {
        val json: JsonObject = buildJsonObject {
            put("event", name)
            run?.let { put("run", it) }
            fields()
        }
        return json.toString()
    }
}
