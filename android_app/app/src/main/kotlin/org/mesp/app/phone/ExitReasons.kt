package org.mesp.app.phone

import android.app.ActivityManager
import android.app.ApplicationExitInfo
import android.content.Context
import android.os.Build

/** Why the process of a run ended, as far as the system knows (API 30). */
enum class Ending {
    /** Memory was short. */
    MEMORY,
    CRASH,

    /** It did not answer in time. */
    STUCK,

    /** The person ended the app, or a cleaner did. */
    PERSON,

    /** The system, or a phone maker's addition to it, found that it took too much. */
    TOO_MUCH,

    /** Ended by a signal, of whom is not known: often the phone maker's battery manager. */
    SIGNAL,

    /** The app or its permissions were changed. */
    CHANGED,
    UNKNOWN;

    /** Whether the phone's settings can keep it from happening again. */
    val bySystem get() = this == TOO_MUCH || this == SIGNAL || this == UNKNOWN
}

/** Asks the system why a run's process ended. A run marks its process with its name, so that no other one's end is taken for its own. */
object ExitReasons {
    private const val MOST = 16

    /** Marks this process as the one of a run, or of none. */
    fun mark(context: Context, run: String?) {
        if (Build.VERSION.SDK_INT < 30) return
        context.getSystemService(ActivityManager::class.java).setProcessStateSummary(run?.toByteArray() ?: ByteArray(0))
    }

    /** Null where the system does not know of it, or is too old to tell. */
    fun of(context: Context, run: String): Ending? {
        if (Build.VERSION.SDK_INT < 30) return null
        val ends = context.getSystemService(ActivityManager::class.java).getHistoricalProcessExitReasons(context.packageName, 0, MOST)
        return ends.filter { it.processStateSummary?.decodeToString() == run }.maxByOrNull { it.timestamp }?.let { ending(it.reason) }
    }

    private fun ending(reason: Int): Ending =
        when (reason) {
            ApplicationExitInfo.REASON_LOW_MEMORY -> Ending.MEMORY
            ApplicationExitInfo.REASON_CRASH, ApplicationExitInfo.REASON_CRASH_NATIVE -> Ending.CRASH
            ApplicationExitInfo.REASON_ANR, ApplicationExitInfo.REASON_INITIALIZATION_FAILURE -> Ending.STUCK
            ApplicationExitInfo.REASON_USER_REQUESTED, ApplicationExitInfo.REASON_USER_STOPPED -> Ending.PERSON
            ApplicationExitInfo.REASON_EXCESSIVE_RESOURCE_USAGE, REASON_FREEZER -> Ending.TOO_MUCH
            ApplicationExitInfo.REASON_SIGNALED -> Ending.SIGNAL
            ApplicationExitInfo.REASON_PERMISSION_CHANGE, REASON_PACKAGE_STATE_CHANGE, REASON_PACKAGE_UPDATED -> Ending.CHANGED
            else -> Ending.UNKNOWN
        }

    // Of API 33 and 34: the numbers are compiled into the app, and an older system never has them.
    private const val REASON_FREEZER = ApplicationExitInfo.REASON_FREEZER
    private const val REASON_PACKAGE_STATE_CHANGE = ApplicationExitInfo.REASON_PACKAGE_STATE_CHANGE
    private const val REASON_PACKAGE_UPDATED = ApplicationExitInfo.REASON_PACKAGE_UPDATED
}
