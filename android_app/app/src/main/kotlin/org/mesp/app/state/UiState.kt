package org.mesp.app.state

import org.mesp.app.phone.Background
import org.mesp.app.phone.Ending
import org.mesp.app.phone.LibraryNote

/** Which screen is shown where no run is. */
enum class Place { SETUP, FILES, LICENCES }

/** Everything that the screen shows. It alone decides what is drawn, so the Activity can be made anew at any time. */
data class UiState(
    val place: Place = Place.SETUP,
    val bundles: List<StoredBundle> = emptyList(),
    val data: List<StoredData> = emptyList(),
    val dataNote: DataNote? = null,
    val runs: List<StoredRun> = emptyList(),
    val form: Form = Form(),
    val problems: Problems = Problems(),
    val importing: Import? = null,
    val run: RunState? = null,
    val showDetails: Boolean = false,
    val resumable: Resumable? = null,
    val message: String? = null,
    val question: Question? = null,
    val notificationsOff: Boolean = false,
    val background: Background = Background(),
    val paces: Map<String, Pace> = emptyMap(),
    val library: LibraryNote? = null,
)

/** A bundle in the app's files; what its manifest says, or null where that cannot be read. */
data class StoredBundle(val name: String, val bytes: Long, val manifest: Manifest?) {
    data class Manifest(val model: String, val weights: String, val method: String, val tokens: Int, val rank: Int)
}

/**
 * A run's folder, as a line of the list.
 *
 * @param status how it ended; INTERRUPTED also where its process was ended before it could say so
 * @param model and [data] by their names, null where the folder does not tell
 * @param before the error on what was kept aside, before training and [after]; null without such a part
 * @param hasAdapter its result is there
 * @param canResume it did not come to its end, and can
 */
data class StoredRun(
    val name: String,
    val bytes: Long,
    val status: Status,
    val model: String?,
    val data: String?,
    val step: Int,
    val total: Int,
    val before: Double?,
    val after: Double?,
    val hasAdapter: Boolean,
    val canResume: Boolean,
)

/** A data file in the app's files. */
data class StoredData(val name: String, val bytes: Long)

/** What a look into the data told: columns that are not read, or why it cannot be trained on. */
data class DataNote(val of: StoredData, val notRead: List<String> = emptyList(), val problem: String? = null)

/** A copy into the app's files; [total] is null where the source does not tell. */
data class Import(val name: String, val done: Long = 0, val total: Long? = null)

/**
 * A run that ended before its end and can go on: its last checkpoint's step, 0 without one, of [steps]; why it failed, if it did; and what the system
 * says of its process, if that ended.
 */
data class Resumable(
    val name: String,
    val step: Int,
    val steps: Int,
    val reason: String? = null,
    val model: String? = null,
    val data: String? = null,
    val ending: Ending? = null,
)
