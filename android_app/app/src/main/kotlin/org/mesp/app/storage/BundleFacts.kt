package org.mesp.app.storage

import java.io.File
import kotlinx.serialization.json.Json
import kotlinx.serialization.json.JsonObject
import kotlinx.serialization.json.int
import kotlinx.serialization.json.jsonArray
import kotlinx.serialization.json.jsonObject
import kotlinx.serialization.json.jsonPrimitive
import org.mesp.app.state.StoredBundle
import org.mesp.app.state.text
import org.mesp.core.engine.MANIFEST

/** What the manifest in a bundle's folder says; null where it cannot be read: training says in full what is wrong with it. */
fun bundleFacts(folder: File): StoredBundle.Manifest? =
    try {
        read(Json.parseToJsonElement(File(folder, MANIFEST).readText()).jsonObject)
    } catch (_: Exception) { // there is none, or of another kind
        null
    }

private fun read(json: JsonObject): StoredBundle.Manifest {
    val plan = json.getValue("plan").jsonObject
    return StoredBundle.Manifest(
        model = modelName(json.getValue("model").jsonObject.text("origin").orEmpty()),
        weights = plan.text("weights").orEmpty(),
        method = plan.text("method").orEmpty(),
        tokens = plan.getValue("seq_len").jsonArray.maxOf { it.jsonPrimitive.int },
        rank = plan.getValue("rank").jsonPrimitive.int,
    )
}

/** A checkpoint's name for people: without where it was, and without the kind of file. */
fun modelName(origin: String): String = origin.trimEnd('/').substringAfterLast('/').removeSuffix(".gguf")
