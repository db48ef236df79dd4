package org.mesp.app.storage

import java.io.File
import java.util.concurrent.Executor
import kotlinx.serialization.json.doubleOrNull
import kotlinx.serialization.json.intOrNull
import kotlinx.serialization.json.jsonPrimitive
import org.mesp.app.phone.Ending
import org.mesp.app.state.Resumable
import org.mesp.app.state.Status
import org.mesp.app.state.Store
import org.mesp.app.state.StoredBundle
import org.mesp.app.state.StoredData
import org.mesp.app.state.StoredRun
import org.mesp.app.state.text

/**
 * Looks through the app's files for bundles, data and runs, and puts them into the state.
 *
 * @param whyEnded what the system says of the process of a run that left no report
 */
class Shelf(
    private val folders: Folders,
    private val requests: Requests,
    private val preferences: Preferences,
    private val store: Store,
    private val background: Executor,
    private val whyEnded: (run: String) -> Ending?,
) {
    fun refresh() =
        background.execute {
            val bundles = visible(folders.allBundles).filter { it.isDirectory }.map(::stored)
            val data = visible(folders.allData).filter { it.isFile }.map { StoredData(it.name, it.length()) }
            val runs = runs()
            val resumable = resumable(runs)
            store.update { state ->
                val form = state.form
                state.copy(
                    bundles = bundles,
                    data = data,
                    runs = runs,
                    paces = preferences.paces,
                    form =
                        form.copy(
                            bundle = form.bundle.takeIf { name -> bundles.any { it.name == name } } ?: bundles.singleOrNull()?.name,
                            data = form.data.takeIf { name -> data.any { it.name == name } } ?: data.singleOrNull()?.name,
                        ),
                    resumable = resumable.takeIf { state.run == null || state.run.status.ended },
                )
            }
        }

    /** Shows a run of before, unless one is under way. */
    fun open(name: String) =
        background.execute {
            val run = RunFolder(File(folders.runs, name)).state()
            store.update { if (it.run?.status?.ended == false) it else it.copy(run = run, message = null) }
        }

    /** The runs that are over, the newest first. */
    private fun runs(): List<StoredRun> {
        val active = store.state.run?.takeIf { !it.status.ended }?.name
        return visible(listOf(folders.runs)).filter { it.isDirectory && it.name != active }.sortedByDescending { it.lastModified() }.map(::run)
    }

    private fun run(folder: File): StoredRun {
        val log = RunFolder(folder)
        val report = log.report
        val status = report?.text("status")
        val open = status == null || status == "interrupted" || (status == "failed" && log.checkpoint != null)
        return StoredRun(
            name = folder.name,
            bytes = bytesOf(folder),
            status = if (status == null) Status.INTERRUPTED else Status.of(status),
            model = log.model,
            data = log.data,
            step = report?.get("steps")?.jsonPrimitive?.intOrNull ?: log.checkpoint ?: 0,
            total = log.totalSteps,
            before = report?.get("eval_loss_before")?.jsonPrimitive?.doubleOrNull,
            after = report?.get("eval_loss_after")?.jsonPrimitive?.doubleOrNull,
            hasAdapter = log.adapter != null,
            canResume = open && log.run != null && requests.read(folder.name) != null,
        )
    }

    /** The newest run that was killed, stopped, or failed after a checkpoint. */
    private fun resumable(runs: List<StoredRun>): Resumable? {
        val forgotten = preferences.forgotten
        val run = runs.find { it.canResume && it.name !in forgotten } ?: return null
        val log = RunFolder(File(folders.runs, run.name))
        val ending = if (log.report == null) whyEnded(run.name) else null
        return Resumable(run.name, log.checkpoint ?: 0, run.total, log.report?.text("reason"), run.model, run.data, ending)
    }

    /** What is in these folders; of two with a name, the first. */
    private fun visible(folders: List<File>) =
        folders.flatMap { it.listFiles().orEmpty().toList() }.filterNot { it.name.startsWith(".") }.distinctBy { it.name }.sortedBy { it.name.lowercase() }

    private fun stored(folder: File) = StoredBundle(folder.name, bytesOf(folder), bundleFacts(folder))

    private fun bytesOf(folder: File) = folder.walkTopDown().filter { it.isFile }.sumOf { it.length() }
}
