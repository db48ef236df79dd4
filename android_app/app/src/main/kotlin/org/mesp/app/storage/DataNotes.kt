package org.mesp.app.storage

import android.content.Context
import java.util.concurrent.Executor
import org.mesp.app.phone.reasonOf
import org.mesp.app.state.DataNote
import org.mesp.app.state.Store
import org.mesp.app.state.StoredData
import org.mesp.app.state.UiState
import org.mesp.core.data.columnsNotRead

/** Looks into the data that is chosen, and says what of it is not read, or why it cannot be trained on. */
class DataNotes(private val context: Context, private val folders: Folders, private val store: Store, private val background: Executor) {
    /** To be called with each new state, on the main thread. */
    fun look(state: UiState) {
        val chosen = state.data.find { it.name == state.form.data }
        if (state.dataNote?.of == chosen) return
        store.update { it.copy(dataNote = chosen?.let(::DataNote)) }
        if (chosen != null) background.execute { tell(chosen) }
    }

    private fun tell(data: StoredData) {
        val file = folders.below(folders.dataPath(data.name)) ?: return
        val note =
            try {
                DataNote(data, notRead = columnsNotRead(file))
            } catch (error: Exception) { // a damaged file may fail in any way; the person hears of it before a run does
                DataNote(data, problem = reasonOf(context, error).replace(file.path, file.name))
            }
        store.update { if (it.dataNote?.of == data) it.copy(dataNote = note) else it }
    }
}
