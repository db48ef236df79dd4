package org.mesp.app.service

import android.content.Context
import java.io.File
import kotlinx.serialization.json.JsonObject
import kotlinx.serialization.json.JsonPrimitive
import kotlinx.serialization.json.intOrNull
import kotlinx.serialization.json.put
import org.mesp.app.R
import org.mesp.app.phone.Logcat
import org.mesp.app.phone.describeDevice
import org.mesp.app.phone.reasonOf
import org.mesp.app.state.Pause
import org.mesp.app.state.RunState
import org.mesp.app.state.Status
import org.mesp.app.state.Store
import org.mesp.app.state.text
import org.mesp.app.state.updateRun
import org.mesp.app.storage.Folders
import org.mesp.app.storage.Requests
import org.mesp.app.storage.RunFolder
import org.mesp.app.storage.RunRequest
import org.mesp.app.storage.bundleFacts
import org.mesp.core.UsageException

/** One run, on a thread of its own, from its request to its end state in report.json, in the state and in logcat. */
class TrainingJob(
    private val context: Context,
    private val store: Store,
    private val trainer: Trainer,
    private val request: RunRequest,
    pausesChanged: (Set<Pause>, Boolean) -> Unit,
) {
    private val requests = Requests(context)
    val name = request.output

    /** The bundle's name, and the sequences of a step: what the run's pace is of. */
    val bundle = request.bundle.trimEnd('/').substringAfterLast('/')
    val sequencesAStep: Int get() = (request.settings["grad_accumulation"] as? JsonPrimitive)?.intOrNull ?: 1

    init {
        store.update { it.copy(run = RunState(name, data = request.data.substringAfterLast('/')), message = null, resumable = null) }
    }

    val gate = Gate { pauses, waiting ->
        store.updateRun(name) { it.copy(pauses = pauses, waiting = waiting) }
        pausesChanged(pauses, waiting)
    }

    /** All is written and told: another run may begin, although the service may not yet have heard of this one's end. */
    @Volatile var over = false
        private set

    /** Calls [ended] on the training thread, once it is over, whatever happened. */
    fun start(ended: () -> Unit) {
        Thread(
                {
                    try {
                        train()
                    } finally {
                        ended()
                    }
                },
                "training",
            )
            .start()
    }

    /** No later than after the sequence that is under way. */
    fun stop() {
        store.updateRun(name) { if (it.status.ended) it else it.copy(status = Status.STOPPING) }
        gate.end()
    }

    private fun train() {
        val output = request.runFolder(context)
        val environment = describeDevice(context, store.state.library)
        var ours = false // whether the folder is this run's, so that its report may be written
        try {
            ours = request.resume || claim(context, name)
            if (!ours) throw UsageException(context.getString(R.string.output_exists, name))
            requests.write(request)
            val bundle = request.bundleFolder(context)
            store.updateRun(name) { it.copy(model = bundleFacts(bundle)?.model ?: bundle.name) }
            val settings = request.trainSettings(context)
            val progress = RunProgress(store, name, output)
            ended(trainer.train(bundle, output, settings, environment, progress, gate, request.resume))
        } catch (error: Throwable) { // whatever the native library or the storage came up with: the person must hear of it
            failed(reasonOf(context, error), error, ours)
        }
    }

    private fun ended(report: JsonObject) {
        val status = Status.of(report.text("status"))
        if (status == Status.DONE || status == Status.STOPPED_EARLY) requests.delete(name)
        Logcat.event("end", name) {
            for (key in REPORTED) report[key]?.let { put(key, it) }
        }
        tellEnd { it.copy(status = status) }
    }

    private fun failed(reason: String, error: Throwable, ours: Boolean) {
        if (ours) reportFailure(context, store, trainer, name, reason)
        Logcat.error("failed", name, reason, error) // last: a harness that hears of it fetches the report
        // Without a checkpoint there is nothing to go on from.
        if (RunFolder(request.runFolder(context)).checkpoint == null) requests.delete(name)
        tellEnd { it.copy(status = Status.FAILED, failure = reason) }
    }

    private fun tellEnd(end: (RunState) -> RunState) {
        over = true
        store.updateRun(name) { end(it).copy(pauses = emptySet(), waiting = false) }
    }

    private companion object {
        val REPORTED = listOf("status", "steps", "loss_first", "loss_last", "eval_loss_before", "eval_loss_after", "memory")
    }
}

/** Whether there is no run of this name yet. What a start that was refused left, a report.json alone, does not count and is removed. */
fun claim(context: Context, run: String): Boolean {
    val folder = File(Folders.of(context).runs, run)
    val items = folder.list().orEmpty().filterNot { it.startsWith(".") }
    if (items == listOf("report.json") && RunFolder(folder).report?.get("status") == JsonPrimitive("failed")) {
        return folder.resolve("report.json").delete()
    }
    return items.isEmpty()
}

/** Leaves the reason in the run's report.json, if the storage still takes it. */
fun reportFailure(context: Context, store: Store, trainer: Trainer, run: String, reason: String) {
    try {
        val folder = File(Folders.of(context).runs, run)
        folder.mkdirs()
        trainer.writeFailure(folder, reason, describeDevice(context, store.state.library))
    } catch (error: Throwable) {
        Logcat.error("report", run, reasonOf(context, error), error)
    }
}
