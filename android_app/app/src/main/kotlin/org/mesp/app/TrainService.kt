package org.mesp.app

import android.app.Service
import android.content.ComponentCallbacks2
import android.content.Context
import android.content.Intent
import android.os.Handler
import android.os.IBinder
import android.os.Looper
import android.os.PowerManager
import kotlinx.serialization.json.JsonPrimitive
import kotlinx.serialization.json.buildJsonArray
import kotlinx.serialization.json.put
import org.mesp.app.phone.Battery
import org.mesp.app.phone.BatteryMeter
import org.mesp.app.phone.BatteryRule
import org.mesp.app.phone.ExitReasons
import org.mesp.app.phone.HeatRule
import org.mesp.app.phone.Logcat
import org.mesp.app.phone.PhoneWatch
import org.mesp.app.phone.Warmth
import org.mesp.app.phone.memoryOf
import org.mesp.app.service.Command
import org.mesp.app.service.RunNotification
import org.mesp.app.service.TrainingJob
import org.mesp.app.service.claim
import org.mesp.app.service.reportFailure
import org.mesp.app.state.Pace
import org.mesp.app.state.Pause
import org.mesp.app.state.RunState
import org.mesp.app.state.UiState
import org.mesp.app.state.updateRun
import org.mesp.app.storage.Folders
import org.mesp.app.storage.RunRequest
import org.mesp.core.UsageException

/**
 * Trains in the foreground, as Android calls it: with a notification, and whether or not the Activity is there. It holds the policies:
 * when to pause, when to keep the phone awake, when a checkpoint is due. What a run does is [TrainingJob]'s.
 *
 * The service is exported, guarded by the permission DUMP (see the manifest): a harness starts it by
 *
 *     adb shell am start-foreground-service -n org.mesp.app/.TrainService -a org.mesp.app.action.TRAIN \
 *         --es bundle bundles/NAME --es data data/FILE --es output RUN --es settings '{"steps": 5}' [--ez resume true]
 *
 * and tells it more by `am startservice` with the other actions of [Command].
 */
class TrainService : Service() {
    private val main = Handler(Looper.getMainLooper())
    private val notification by lazy { RunNotification(this, MainActivity::class.java) }
    private val wakeLock by lazy {
        getSystemService(PowerManager::class.java).newWakeLock(PowerManager.PARTIAL_WAKE_LOCK, "mesp:training").apply {
            setReferenceCounted(false)
        }
    }
    private var job: TrainingJob? = null
    private var lastStart = 0
    private var onlyWhileCharging = false
    private var pauseBelowPercent = 0
    private var hot = false
    private var batteryIsLow = false
    private var meter: BatteryMeter? = null
    private var phone: PhoneWatch? = null
    private var unobserve = {}
    private var stepSeen = 0
    private var memoryWasLow = false

    override fun onBind(intent: Intent?): IBinder? = null

    override fun onStartCommand(intent: Intent?, flags: Int, startId: Int): Int {
        val command = Command.of(intent)
        lastStart = startId
        if (command == Command.DISMISSED) {
            notification.dismiss()
        } else if (isInForeground(command) || enterForeground(intent.takeIf { command == Command.TRAIN })) {
            when (command) {
                Command.TRAIN -> begin(intent!!)
                Command.PAUSE -> job?.gate?.set(Pause.USER, true)
                Command.CONTINUE -> job?.gate?.set(Pause.USER, false)
                Command.STOP -> job?.stop()
                Command.CHECKPOINT -> job?.gate?.wantCheckpoint()
                Command.DISMISSED -> Unit
                null -> refuse(null, getString(R.string.unknown_action, intent?.action))
            }
            if (job == null && command != Command.TRAIN) Logcat.error("refused", null, getString(R.string.no_run))
        }
        if (job == null) leave()
        // Not sticky, not redelivered: a run that was killed for its memory would be started into the same shortage, unseen, and from
        // Android 12 on a service that the system restarts may not go to the foreground. The checkpoint is there: the app offers to
        // resume the run when it is opened, and a harness says when.
        return START_NOT_STICKY
    }

    /**
     * Whether there is no need to enter it. A start for the foreground has to, each time: Android ends the process else. To tell a run under way
     * something has not, and must not bring back a notification that the person has dismissed.
     */
    private fun isInForeground(command: Command?) = job != null && command != Command.TRAIN

    private fun enterForeground(start: Intent?): Boolean =
        try {
            startForeground(RunNotification.RUNNING, notification.of(mesp.store.state.run))
            notification.appears()
            true
        } catch (error: RuntimeException) { // ForegroundServiceStartNotAllowedException (API 31), or SecurityException
            val reason = getString(R.string.background_refused, error.message)
            refuse(start?.getStringExtra("output"), reason)
            false
        }

    private fun begin(intent: Intent) {
        val request = requestOf(intent) ?: return
        job?.let {
            if (!it.over) return refuse(request.output, getString(R.string.run_under_way, it.name))
            close()
        }
        Logcat.event("start", request.output) {
            for ((key, value) in request.toJson() + ("resume" to JsonPrimitive(request.resume))) put(key, value)
        }
        onlyWhileCharging = request.onlyWhileCharging
        pauseBelowPercent = request.pauseBelowPercent
        hot = false
        batteryIsLow = false
        meter = BatteryMeter.of(this)
        stepSeen = 0
        val job = TrainingJob(this, mesp.store, mesp.trainer, request) { pauses, waiting -> main.post { pausesChanged(pauses, waiting) } }
        this.job = job
        ExitReasons.mark(this, job.name)
        wakeLock.acquire()
        unobserve = mesp.store.observe(::stateChanged)
        // Before the training thread: no step is taken on a phone that is hot, or away from its charger.
        phone = PhoneWatch(this, ::phoneChanged).also(PhoneWatch::start)
        job.start {
            main.post {
                if (this.job === job) {
                    close()
                    leave()
                }
            }
        }
    }

    private fun requestOf(intent: Intent): RunRequest? =
        try {
            RunRequest.of(this, intent)
        } catch (error: UsageException) {
            refuse(intent.getStringExtra("output"), error.message.orEmpty())
            null
        }

    /** Tells it in the interface, in logcat, and in the folder of the run that was asked for, unless that is another run's. */
    private fun refuse(run: String?, reason: String) {
        mesp.store.update { it.copy(message = reason) }
        Logcat.error("refused", run, reason)
        if (run != null && Folders.isName(run) && run != job?.name && claim(this, run)) reportFailure(this, mesp.store, mesp.trainer, run, reason)
    }

    // --- Policies -----------------------------------------------------------------------------------------------------

    private fun phoneChanged(warmth: Warmth, battery: Battery) {
        val job = job ?: return
        hot = HeatRule.isHot(warmth, before = hot)
        batteryIsLow = BatteryRule.isLow(battery, pauseBelowPercent, before = batteryIsLow)
        mesp.store.updateRun(job.name) { it.copy(warmth = warmth, battery = battery) }
        job.gate.set(Pause.HOT, hot)
        job.gate.set(Pause.NOT_CHARGING, onlyWhileCharging && !battery.plugged)
        job.gate.set(Pause.LOW_BATTERY, batteryIsLow)
    }

    private fun pausesChanged(pauses: Set<Pause>, waiting: Boolean) {
        val job = job ?: return
        Logcat.event(if (waiting) "paused" else if (pauses.isEmpty()) "going_on" else "pausing", job.name) {
            put("reasons", buildJsonArray { pauses.forEach { add(JsonPrimitive(it.name.lowercase())) } })
        }
        // A waiting run lets the phone sleep: the person or the charger will wake it. Coolness wakes no phone, so for heat it stays awake.
        if (waiting && Pause.HOT !in pauses) wakeLock.release() else wakeLock.acquire()
    }

    /** Android 14 and later do not call this for a process in the foreground, so [stateChanged] asks too. */
    override fun onTrimMemory(level: Int) {
        super.onTrimMemory(level)
        val critical = ComponentCallbacks2.TRIM_MEMORY_RUNNING_CRITICAL
        // UI_HIDDEN and BACKGROUND lie between: they say that the screen is gone, not that memory is short.
        if (level in critical..<ComponentCallbacks2.TRIM_MEMORY_UI_HIDDEN || level >= ComponentCallbacks2.TRIM_MEMORY_MODERATE) {
            memoryIsLow()
        }
    }

    private fun memoryIsLow() {
        val job = job ?: return
        job.gate.wantCheckpoint()
        mesp.store.updateRun(job.name) { it.copy(lowMemory = it.step) }
        Logcat.event("low_memory", job.name)
    }

    private fun stateChanged(state: UiState) {
        val run = state.run?.takeIf { it.name == job?.name } ?: return
        notification.show(run)
        if (run.step == stepSeen) return
        stepSeen = run.step
        measure(run)
        val low = memoryOf(this).lowMemory
        if (low && !memoryWasLow) memoryIsLow()
        memoryWasLow = low
    }

    /** What a step takes of the battery and, from the first one on, how fast this bundle is: the next run can be estimated before it starts. */
    private fun measure(run: RunState) {
        meter?.stepped(run.step, run.battery)
        val percent = meter?.percentAStep ?: return
        if (percent != run.percentAStep) mesp.store.updateRun(run.name) { it.copy(percentAStep = percent) }
    }

    // --- The end ------------------------------------------------------------------------------------------------------

    private fun close() {
        job?.let { job -> mesp.store.state.run?.takeIf { it.name == job.name }?.let { keepPace(job, it) } }
        job = null
        ExitReasons.mark(this, null)
        unobserve()
        phone?.close()
        wakeLock.release()
        mesp.store.state.run?.let(notification::showEnd)
        mesp.shelf.refresh()
    }

    private fun keepPace(job: TrainingJob, run: RunState) {
        val pace = Pace.of(run, job.sequencesAStep) ?: return
        mesp.preferences.paces = mesp.preferences.paces + (job.bundle to pace)
    }

    private fun leave() {
        notification.close()
        stopForeground(STOP_FOREGROUND_REMOVE)
        stopSelf(lastStart) // not if another start is on its way
    }

    override fun onDestroy() {
        super.onDestroy()
        job?.stop() // the system ends the service but not yet the process: time for a checkpoint
    }
}

/** What starts the service with this command. */
fun Command.intent(context: Context) = Intent(action, null, context, TrainService::class.java)

/** What starts the service with this run. */
fun RunRequest.intent(context: Context): Intent = putInto(Command.TRAIN.intent(context))
