package org.mesp.app

import android.app.Application
import android.content.Context
import android.content.Intent
import android.net.Uri
import java.util.concurrent.Executor
import java.util.concurrent.Executors
import org.mesp.app.phone.ExitReasons
import org.mesp.app.phone.LibraryNote
import org.mesp.app.service.CoreTrainer
import org.mesp.app.service.Trainer
import org.mesp.app.state.Store
import org.mesp.app.state.UiState
import org.mesp.app.storage.DataNotes
import org.mesp.app.storage.Folders
import org.mesp.app.storage.Importer
import org.mesp.app.storage.Leftovers
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
    val shelf by lazy { Shelf(folders, requests, preferences, store, inBackground) { ExitReasons.of(this, it) } }
    val importer by lazy { Importer(this, folders, store, shelf) }
    val dataNotes by lazy { DataNotes(this, folders, store, inBackground) }
    val results by lazy { Results(this, folders, store, inBackground) }
    val remover by lazy { Remover(this, folders, requests, store, shelf, inBackground) }

    /** Replaced in tests. */
    var trainer: Trainer = CoreTrainer

    /** Reads and copies files, one thing at a time; replaced in tests. */
    var background: Executor = Executors.newSingleThreadExecutor()
    private val inBackground = Executor { background.execute(it) }

    /** Makes the copies of imports, one at a time: a long one should not keep others from reading files; replaced in tests. */
    var copies: Executor = Executors.newSingleThreadExecutor()

    /** Removes what a process that was killed left behind. */
    fun clearUp() =
        copies.execute {
            Leftovers(folders, preferences).clear()
            if (store.state.importing == null) contentResolver.persistedUriPermissions.map { it.uri }.forEach(::releaseRead)
        }
}

/** Gives a permission to read a document back, which was kept for a copy. */
fun Context.releaseRead(uri: Uri) = contentResolver.releasePersistableUriPermission(uri, Intent.FLAG_GRANT_READ_URI_PERMISSION)

val Context.mesp: MespApplication get() = applicationContext as MespApplication
