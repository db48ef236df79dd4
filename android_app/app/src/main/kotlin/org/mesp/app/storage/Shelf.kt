package org.mesp.app.storage

import java.io.File
import java.util.concurrent.Executor
import kotlinx.serialization.json.Json
import kotlinx.serialization.json.JsonObject
import kotlinx.serialization.json.int
import kotlinx.serialization.json.jsonArray
import kotlinx.serialization.json.jsonObject
import kotlinx.serialization.json.jsonPrimitive
import org.mesp.app.state.Resumable
import org.mesp.app.state.Store
import org.mesp.app.state.StoredBundle
import org.mesp.app.state.StoredData
import org.mesp.app.state.text
import org.mesp.core.engine.MANIFEST

/** Looks through the app's files for bundles, data and runs that can be resumed, and puts them into the state. */
class Shelf(
    private val folders: Folders,
    private val requests: Requests,
    private val preferences: Preferences,
    private val store: Store,
    private val background: Executor,
) {
    fun refresh() =
        background.execute {
            val bundles = visible(folders.bundles).filter { it.isDirectory }.map(::stored)
            val data = visible(folders.data).filter { it.isFile }.map { StoredData(it.name, it.length()) }
            val resumable = resumable()
            store.update { state ->
                val form = state.form
                state.copy(
                    bundles = bundles,
                    data = data,
                    form =
                        form.copy(
                            bundle = form.bundle.takeIf { name -> bundles.any { it.name == name } } ?: bundles.singleOrNull()?.name,
                            data = form.data.takeIf { name -> data.any { it.name == name } } ?: data.singleOrNull()?.name,
                        ),
                    resumable = resumable.takeIf { state.run == null || state.run.status.ended },
                )
            }
        }

    /** The newest run that was killed, stopped, or failed after a checkpoint. */
    private fun resumable(): Resumable? {
        val active = store.state.run?.takeIf { !it.status.ended }?.name
        val forgotten = preferences.forgotten
        return visible(folders.runs)
            .filter { it.name != active && it.name !in forgotten && requests.read(it.name) != null }
            .sortedByDescending { it.lastModified() }
            .firstNotNullOfOrNull(::resumable)
    }

    private fun resumable(folder: File): Resumable? {
        val log = RunFolder(folder)
        val status = log.report?.text("status")
        val checkpoint = log.checkpoint
        val open = status == null || status == "interrupted" || (status == "failed" && checkpoint != null)
        if (!open || log.run == null) return null
        return Resumable(folder.name, checkpoint ?: 0, log.totalSteps, log.report?.text("reason"))
    }

    private fun visible(folder: File) =
        folder.listFiles().orEmpty().filterNot { it.name.startsWith(".") }.sortedBy { it.name.lowercase() }

    private fun stored(folder: File): StoredBundle {
        val bytes = folder.walkTopDown().filter { it.isFile }.sumOf { it.length() }
        return StoredBundle(folder.name, bytes, manifest(File(folder, MANIFEST)))
    }

    private fun manifest(file: File): StoredBundle.Manifest? =
        try {
            read(Json.parseToJsonElement(file.readText()).jsonObject)
        } catch (_: Exception) { // there is none, or of another kind; training says in full what is wrong with it
            null
        }

    private fun read(json: JsonObject): StoredBundle.Manifest {
        val plan = json.getValue("plan").jsonObject
        return StoredBundle.Manifest(
            model = json.getValue("model").jsonObject.text("origin").orEmpty().substringAfterLast('/'),
            weights = plan.text("weights").orEmpty(),
            method = plan.text("method").orEmpty(),
            tokens = plan.getValue("seq_len").jsonArray.maxOf { it.jsonPrimitive.int },
            rank = plan.getValue("rank").jsonPrimitive.int,
        )
    }
}
