package org.mesp.app.state

import org.mesp.app.phone.LibraryNote

/** Everything that the screen shows. It alone decides what is drawn, so the Activity can be made anew at any time. */
data class UiState(
    val bundles: List<StoredBundle> = emptyList(),
    val data: List<StoredData> = emptyList(),
    val form: Form = Form(),
    val problems: Problems = Problems(),
    val importing: Import? = null,
    val run: RunState? = null,
    val resumable: Resumable? = null,
    val message: String? = null,
    val notificationsOff: Boolean = false,
    val library: LibraryNote? = null,
)

/** A bundle in the app's files; what its manifest says, or null where that cannot be read. */
data class StoredBundle(val name: String, val bytes: Long, val manifest: Manifest?) {
    data class Manifest(val model: String, val weights: String, val method: String, val tokens: Int, val rank: Int)
}

/** A data file in the app's files. */
data class StoredData(val name: String, val bytes: Long)

/** A copy into the app's files; [total] is null where the source does not tell. */
data class Import(val name: String, val done: Long = 0, val total: Long? = null)

/** A run that ended before its end and can go on: its last checkpoint's step, 0 without one, of [steps]; and why it failed, if it did. */
data class Resumable(val name: String, val step: Int, val steps: Int, val reason: String? = null)
