package org.mesp.app

import android.app.NotificationManager
import android.app.Service
import android.content.Context
import android.content.Intent
import android.net.Uri
import android.os.Handler
import android.os.IBinder
import android.os.Looper
import android.os.PowerManager
import org.mesp.app.service.ImportNotification
import org.mesp.app.state.Import
import org.mesp.app.state.UiState
import org.mesp.app.storage.ImportKind

/**
 * Copies what was picked into the app's files, in the foreground, as Android calls it: gigabytes take minutes, and the person may leave the app.
 * The permission to read is kept until the copy is over, also when the Activity that was given it is gone.
 */
class ImportService : Service() {
    private val main = Handler(Looper.getMainLooper())
    private val notification by lazy { ImportNotification(this, Intent(CANCEL, null, this, javaClass), MainActivity::class.java) }
    private val wakeLock by lazy { getSystemService(PowerManager::class.java).newWakeLock(PowerManager.PARTIAL_WAKE_LOCK, "mesp:import") }
    private var copying = false
    private var lastStart = 0
    private var shown: Import? = null
    private var unobserve = {}

    override fun onBind(intent: Intent?): IBinder? = null

    override fun onStartCommand(intent: Intent?, flags: Int, startId: Int): Int {
        lastStart = startId
        val kind = ImportKind.entries.find { it.name == intent?.action }
        val uri = intent?.data
        if (intent?.action == CANCEL) mesp.importer.cancel()
        if (kind != null && uri != null && enterForeground() && mesp.importer.begin()) copy(kind, uri)
        if (!copying) leave()
        // Not sticky: the permission to read ends with the process, and a copy that was killed is removed when the app is opened.
        return START_NOT_STICKY
    }

    private fun enterForeground(): Boolean =
        try {
            startForeground(ImportNotification.ID, notification.of(mesp.store.state.importing))
            true
        } catch (error: RuntimeException) { // ForegroundServiceStartNotAllowedException (API 31), or SecurityException
            mesp.store.update { it.copy(message = getString(R.string.import_background_refused, error.message)) }
            false
        }

    private fun copy(kind: ImportKind, uri: Uri) {
        copying = true
        val kept = keep(uri)
        wakeLock.acquire(MOST_MILLIS)
        unobserve = mesp.store.observe(::show)
        mesp.copies.execute {
            try {
                mesp.importer.run(kind, uri)
            } finally {
                if (kept) releaseRead(uri)
                main.post(::over)
            }
        }
    }

    /** Keeps the permission beyond the Activity, where the document's provider allows it; else the one that came with the intent must do. */
    private fun keep(uri: Uri): Boolean =
        try {
            contentResolver.takePersistableUriPermission(uri, Intent.FLAG_GRANT_READ_URI_PERMISSION)
            true
        } catch (_: SecurityException) {
            false
        }

    /** Each percent: Android drops what comes faster. */
    private fun show(state: UiState) {
        val now = state.importing ?: return
        val before = shown
        val step = maxOf((now.total ?: 0) / 100, 1 shl 22)
        if (before != null && before.name == now.name && now.done - before.done < step) return
        shown = now
        getSystemService(NotificationManager::class.java).notify(ImportNotification.ID, notification.of(now))
    }

    private fun over() {
        copying = false
        shown = null
        unobserve()
        if (wakeLock.isHeld) wakeLock.release()
        leave()
    }

    private fun leave() {
        stopForeground(STOP_FOREGROUND_REMOVE)
        stopSelf(lastStart)
    }

    override fun onDestroy() {
        super.onDestroy()
        if (copying) mesp.importer.cancel()
    }

    companion object {
        private const val CANCEL = "cancel"
        private const val MOST_MILLIS = 2 * 60 * 60 * 1000L

        /** What starts the copy of what the picker gave; the permission to read goes with it. */
        fun intent(context: Context, kind: ImportKind, uri: Uri): Intent =
            Intent(kind.name, uri, context, ImportService::class.java).addFlags(Intent.FLAG_GRANT_READ_URI_PERMISSION)
    }
}
