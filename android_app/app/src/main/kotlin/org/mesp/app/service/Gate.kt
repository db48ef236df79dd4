package org.mesp.app.service

import java.util.EnumSet
import org.mesp.app.state.Pause
import org.mesp.core.training.Control

/**
 * Where the training thread asks whether it may go on. It waits here as long as there is a reason to pause. Other threads set and clear
 * the reasons.
 *
 * @param changed told the reasons, and whether the training thread waits for them
 */
class Gate(private val changed: (pauses: Set<Pause>, waiting: Boolean) -> Unit) : Control {
    private val lock = Object()
    private val pauses = EnumSet.noneOf(Pause::class.java)
    private var waiting = false
    private var ended = false
    private var checkpointWanted = false

    fun set(pause: Pause, on: Boolean) =
        synchronized(lock) {
            if (!(if (on) pauses.add(pause) else pauses.remove(pause))) return
            // A phone that waits may be put away, and the process killed: nothing should be lost then.
            if (on) checkpointWanted = true
            lock.notifyAll()
            tell()
        }

    /** Ends the run before its next sequence, also while it waits. */
    fun end() =
        synchronized(lock) {
            ended = true
            lock.notifyAll()
        }

    fun wantCheckpoint() = synchronized(lock) { checkpointWanted = true }

    override fun stop(): Boolean =
        synchronized(lock) {
            while (pauses.isNotEmpty() && !ended) {
                if (!waiting) {
                    waiting = true
                    tell()
                }
                lock.wait()
            }
            if (waiting) {
                waiting = false
                tell()
            }
            ended
        }

    override fun stopReading(): Boolean = synchronized(lock) { ended }

    override fun checkpoint(): Boolean = synchronized(lock) { checkpointWanted.also { checkpointWanted = false } }

    private fun tell() = changed(EnumSet.copyOf(pauses), waiting)
}
