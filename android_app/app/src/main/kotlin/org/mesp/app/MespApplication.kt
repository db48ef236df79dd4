package org.mesp.app

import android.app.Application
import android.content.Context
import java.util.concurrent.Executor
import java.util.concurrent.Executors
import org.mesp.app.phone.LibraryNote
import org.mesp.app.service.CoreTrainer
import org.mesp.app.service.Trainer
import org.mesp.app.state.Store
import org.mesp.app.state.UiState
import org.mesp.app.storage.Folders
import org.mesp.app.storage.Importer
import org.mesp.app.storage.Preferences
import org.mesp.app.storage.Remover
import org.mesp.app.storage.Requests
import org.mesp.app.storage.Results
import org.mesp.app.storage.Shelf

/** What lives as long as the process, and so outlives the Activity and the service. */
class MespApplication : Application() {
    val folders by lazy { Folders.of(this) }
    val requests by lazy { Requests(this) }
    val preferences by lazy { Preferences(this) }
    val store by lazy { Store(UiState(form = preferences.form, library = LibraryNote.of(assets))) }
    val shelf by lazy { Shelf(folders, requests, preferences, store, inBackground) }
    val importer by lazy { Importer(this, folders, store, shelf, inBackground) }
    val results by lazy { Results(this, folders, store, inBackground) }
    val remover by lazy { Remover(this, folders, requests, store, shelf, inBackground) }

    /** Replaced in tests. */
    var trainer: Trainer = CoreTrainer

    /** Reads and copies files, one thing at a time; replaced in tests. */
    var background: Executor = Executors.newSingleThreadExecutor()
    private val inBackground = Executor { background.execute(it) }
}

val Context.mesp: MespApplication get() = applicationContext as MespApplication
