package org.mesp.app.service

import android.app.Activity
import android.app.Notification
import android.app.NotificationChannel
import android.app.NotificationManager
import android.app.PendingIntent
import android.app.Service
import android.content.Intent
import android.graphics.drawable.Icon
import android.os.Build
import android.os.Handler
import android.os.Looper
import android.os.SystemClock
import org.mesp.app.R
import org.mesp.app.state.Pause
import org.mesp.app.state.RunState
import org.mesp.app.state.Status
import org.mesp.app.state.Words

/**
 * The notification of a run under way, and the one that says how it ended.
 *
 * @param service whose run it is; the buttons tell it its commands
 * @param screen what a tap opens
 */
class RunNotification(private val service: Service, private val screen: Class<out Activity>) {
    private val manager = service.getSystemService(NotificationManager::class.java)
    private val main = Handler(Looper.getMainLooper())
    private val words = Words(service)
    private var shown = 0L
    private var next: RunState? = null
    private var dismissed = false

    init {
        val channel = NotificationChannel(CHANNEL, service.getString(R.string.channel_name), NotificationManager.IMPORTANCE_LOW)
        channel.description = service.getString(R.string.channel_description)
        manager.createNotificationChannel(channel)
    }

    fun of(run: RunState?): Notification {
        val builder =
            builder()
                .setContentTitle(if (run == null) service.getString(R.string.preparing) else words.title(run))
                .setContentText(run?.let(words::progress))
                .setOngoing(true)
                .setDeleteIntent(told(Command.DISMISSED))
                .setCategory(Notification.CATEGORY_PROGRESS)
        if (run == null || run.status.ended) return builder.build()
        if (run.total > 0) builder.setProgress(run.total, run.step, false) else builder.setProgress(0, 0, true)
        if (Build.VERSION.SDK_INT >= 31) builder.setForegroundServiceBehavior(Notification.FOREGROUND_SERVICE_IMMEDIATE)
        if (run.status == Status.STOPPING) return builder.build()
        if (Pause.USER in run.pauses) {
            builder.addAction(action(R.drawable.ic_play, R.string.continue_run, Command.CONTINUE))
        } else {
            builder.addAction(action(R.drawable.ic_pause, R.string.pause, Command.PAUSE))
        }
        return builder.addAction(action(R.drawable.ic_stop, R.string.stop, Command.STOP)).build()
    }

    /** It is not shown again before the run's end, until [appears]. */
    fun dismiss() {
        dismissed = true
        close()
    }

    /** Android shows it now, as it does whenever the service enters the foreground. */
    fun appears() {
        dismissed = false
    }

    /** At most once a second: Android drops what comes faster, perhaps the last. */
    fun show(run: RunState) {
        if (dismissed) return
        val waits = next != null
        next = run
        if (waits) return
        main.postAtTime(::showNext, shown + 1000)
    }

    private fun showNext() {
        val run = next ?: return
        next = null
        shown = SystemClock.uptimeMillis()
        manager.notify(RUNNING, of(run))
    }

    fun showEnd(run: RunState) {
        close()
        val text = words.end(run)
        val notification =
            builder().setContentTitle(words.title(run)).setContentText(text).setStyle(Notification.BigTextStyle().bigText(text))
        manager.notify(ENDED, notification.setAutoCancel(true).build())
    }

    fun close() {
        main.removeCallbacksAndMessages(null)
        next = null
    }

    private fun builder() =
        Notification.Builder(service, CHANNEL)
            .setSmallIcon(R.drawable.ic_notification)
            .setColor(service.getColor(R.color.accent))
            .setOnlyAlertOnce(true)
            .setContentIntent(PendingIntent.getActivity(service, 0, Intent(service, screen), FLAGS))

    private fun action(icon: Int, text: Int, command: Command): Notification.Action =
        Notification.Action.Builder(Icon.createWithResource(service, icon), service.getString(text), told(command)).build()

    private fun told(command: Command): PendingIntent =
        PendingIntent.getService(service, command.ordinal, Intent(command.action, null, service, service.javaClass), FLAGS)

    companion object {
        const val CHANNEL = "training"
        const val RUNNING = 1
        const val ENDED = 2
        private const val FLAGS = PendingIntent.FLAG_IMMUTABLE or PendingIntent.FLAG_UPDATE_CURRENT
    }
}
