package org.mesp.app

import android.app.Application
import android.content.Context
import java.util.concurrent.Executor
import java.util.concurrent.Executors

/** What lives as long as the process, and so outlives the Activity and the service. */
class MespApplication : Application() {
    val folders by lazy { Folders.of(this) }
    val requests by lazy { Requests(this) }
    val preferences by lazy { Preferences(this) }
    val store by lazy { Store(UiState(form = preferences.form, library = Library.of(assets))) }
    val shelf by lazy { Shelf(this) }
    val importer by lazy { Importer(this) }

    /** Replaced in tests. */
    var trainer: Trainer = CoreTrainer

    /** Reads and copies files, one thing at a time; replaced in tests. */
    var background: Executor = Executors.newSingleThreadExecutor()
}

val Context.mesp: MespApplication get() = applicationContext as MespApplication
