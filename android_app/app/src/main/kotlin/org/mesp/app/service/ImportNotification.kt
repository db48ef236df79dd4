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
import org.mesp.app.R
import org.mesp.app.state.Import
import org.mesp.app.state.Words

/**
 * The notification of a copy under way.
 *
 * @param cancel what its button tells the service
 * @param screen what a tap opens
 */
class ImportNotification(private val service: Service, private val cancel: Intent, private val screen: Class<out Activity>) {
    private val words = Words(service)

    init {
        val channel = NotificationChannel(CHANNEL, service.getString(R.string.import_channel_name), NotificationManager.IMPORTANCE_LOW)
        channel.description = service.getString(R.string.import_channel_description)
        service.getSystemService(NotificationManager::class.java).createNotificationChannel(channel)
    }

    fun of(importing: Import?): Notification {
        val total = importing?.total?.takeIf { it > 0 }
        val builder =
            Notification.Builder(service, CHANNEL)
                .setSmallIcon(R.drawable.ic_notification)
                .setColor(service.getColor(R.color.accent))
                .setOnlyAlertOnce(true)
                .setOngoing(true)
                .setCategory(Notification.CATEGORY_PROGRESS)
                .setContentTitle(if (importing == null) service.getString(R.string.looking) else words.import(importing))
                .setContentIntent(PendingIntent.getActivity(service, 0, Intent(service, screen), FLAGS))
                .setProgress(PARTS, if (total == null) 0 else (importing.done * PARTS / total).toInt().coerceAtMost(PARTS), total == null)
        if (Build.VERSION.SDK_INT >= 31) builder.setForegroundServiceBehavior(Notification.FOREGROUND_SERVICE_IMMEDIATE)
        val intent = PendingIntent.getService(service, 0, cancel, FLAGS)
        return builder.addAction(Notification.Action.Builder(null as Icon?, service.getString(R.string.cancel), intent).build()).build()
    }

    companion object {
        const val ID = 3
        private const val CHANNEL = "import"
        private const val PARTS = 1000
        private const val FLAGS = PendingIntent.FLAG_IMMUTABLE or PendingIntent.FLAG_UPDATE_CURRENT
    }
}
