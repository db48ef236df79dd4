package org.mesp.app.state

import android.os.Handler
import android.os.Looper

/**
 * The one place of the app's state. Any thread may change it. Observers hear of changes on the main thread, and of the newest state alone, so
 * that a fast run does not flood the screen.
 */
class Store(initial: UiState) {
    @Volatile
    var state: UiState = initial
        private set

    private val main = Handler(Looper.getMainLooper())
    private val observers = mutableListOf<(UiState) -> Unit>() // of the main thread
    private var announced = false

    /** Changes the state; [change] must be quick, and may be called on any thread. */
    fun update(change: (UiState) -> UiState) {
        synchronized(this) {
            val before = state
            state = change(before)
            if (state == before || announced) return
            announced = true
        }
        main.post {
            synchronized(this) { announced = false }
            val now = state
            observers.toList().forEach { it(now) }
        }
    }

    /** Calls [observer] with the state now and after each change, until what is returned is called. On the main thread. */
    fun observe(observer: (UiState) -> Unit): () -> Unit {
        observers += observer
        observer(state)
        return { observers -= observer }
    }
}

/** Changes the run of this name, if it is the one that is shown. */
fun Store.updateRun(name: String, change: (RunState) -> RunState) =
    update { state -> if (state.run?.name == name) state.copy(run = change(state.run)) else state }
