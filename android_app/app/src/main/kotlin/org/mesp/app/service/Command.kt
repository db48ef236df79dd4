package org.mesp.app.service

import android.content.Intent

/** What the service is told to do, by the screen, the notification, or a harness. */
enum class Command {
    TRAIN,
    PAUSE,

    /** Ends the person's pause. */
    CONTINUE,

    /** Ends the run with a checkpoint. */
    STOP,

    /** Writes a checkpoint after this step. */
    CHECKPOINT,

    /** The person has swiped the notification away (Android 14 and later let them): it stays away, and the run goes on. */
    DISMISSED;

    val action get() = "org.mesp.app.action.$name"

    companion object {
        fun of(intent: Intent?) = entries.find { it.action == intent?.action }
    }
}
