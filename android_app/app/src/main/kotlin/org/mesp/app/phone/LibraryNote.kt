package org.mesp.app.phone

import android.content.res.AssetManager
import java.io.IOException
import kotlinx.serialization.json.Json
import kotlinx.serialization.json.JsonObject
import kotlinx.serialization.json.jsonObject
import kotlinx.serialization.json.jsonPrimitive

/** The ExecuTorch library inside this APK, which the build notes in assets/library.json. */
data class LibraryNote(val json: JsonObject) {
    val name get() = text("name")
    val version get() = text("version")
    val source get() = text("source")
    val licence get() = text("licence")

    private fun text(key: String) = json[key]?.jsonPrimitive?.content.orEmpty()

    companion object {
        /** Null in a build that was packed without a note. */
        fun of(assets: AssetManager): LibraryNote? =
            try {
                LibraryNote(assets.open("library.json").use { Json.parseToJsonElement(it.reader().readText()).jsonObject })
            } catch (_: IOException) {
                null
            } catch (_: IllegalArgumentException) { // not JSON, or no object
                null
            }
    }
}
