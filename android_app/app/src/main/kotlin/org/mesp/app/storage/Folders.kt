package org.mesp.app.storage

import android.content.Context
import java.io.File

/**
 * Where the app keeps things, below its external files: adb reads and writes there without root, and native code can map the files by path.
 *
 *     bundles/NAME    what `mesp export` made
 *     data/NAME       training rows
 *     runs/NAME       run folders
 */
class Folders(val root: File) {
    val bundles = File(root, "bundles")
    val data = File(root, "data")
    val runs = File(root, "runs")

    /** The file of a path below the root, or null if the path leads out of it. */
    fun below(path: String): File? {
        val file = (if (path.startsWith("/")) File(path) else File(root, path)).canonicalFile
        return file.takeIf { it.startsWith(root.canonicalFile) && it != root.canonicalFile }
    }

    companion object {
        /** The shared storage may be gone, as when a card was taken out; then the app's own storage, which adb does not reach. */
        fun of(context: Context) = Folders(context.getExternalFilesDir(null) ?: context.filesDir)

        private val NAME = Regex("[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")

        /** Whether a run's folder may be called so: the name comes from an intent, and must not be a way to another folder. */
        fun isName(name: String) = NAME.matches(name)
    }
}
