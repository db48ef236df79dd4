package org.mesp.app.storage

import android.content.Context
import java.io.File
import kotlinx.serialization.json.Json
import kotlinx.serialization.json.jsonObject

/** What each run that has not finished was started with, so that it can be resumed after its process was killed. */
class Requests(context: Context) {
    private val folder = File(context.filesDir, "requests")

    fun write(request: RunRequest) {
        folder.mkdirs()
        val new = File(folder, ".new")
        new.writeText(request.toJson().toString())
        new.renameTo(file(request.output))
    }

    /** Null where there is none, or none that can be read. */
    fun read(run: String): RunRequest? =
        try {
            file(run).takeIf { it.isFile }?.let { RunRequest.fromJson(Json.parseToJsonElement(it.readText()).jsonObject) }
        } catch (_: Exception) { // half written, or of another version
            null
        }

    fun delete(run: String) {
        file(run).delete()
    }

    private fun file(run: String) = File(folder, "$run.json")
}
