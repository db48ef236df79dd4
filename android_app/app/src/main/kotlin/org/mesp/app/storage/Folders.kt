package org.mesp.app.storage

import android.content.Context
import java.io.File

/**
 * Where the app keeps things.
 *
 *     bundles/NAME    what `mesp export` made, as a harness sent it
 *     data/NAME       training rows, as a harness sent them
 *     runs/NAME       run folders, which have no text in them
 *     own/bundles/NAME, own/data/NAME    what the person chose
 *
 * @param root the first three, in the app's external files: adb reads and writes there without root, and native code can map the files by path
 * @param own what the person chose, in the app's own storage, which no other app and no cable reaches, and no backup takes
 */
class Folders(val root: File, private val own: File) {
    val bundles = File(root, "bundles")
    val data = File(root, "data")
    val runs = File(root, "runs")
    val ownBundles = File(own, "bundles")
    val ownData = File(own, "data")

    /** Each folder of bundles, and of data: the app's own first. */
    val allBundles = listOf(ownBundles, bundles)
    val allData = listOf(ownData, data)

    /** The path by which [below] finds the bundle, or the data, of this name. */
    fun bundlePath(name: String) = path(ownBundles, name)

    fun dataPath(name: String) = path(ownData, name)

    private fun path(ours: File, name: String) = (if (File(ours, name).exists()) OWN else "") + "${ours.name}/$name"

    /** The file of a path, or null if the path leads out of the app's files. What an earlier version had elsewhere is found where it is now. */
    fun below(path: String): File? {
        if (path.startsWith("/")) return File(path).inside(root) ?: File(path).inside(own)
        if (path.startsWith(OWN)) return File(own, path.removePrefix(OWN)).inside(own)
        val file = File(root, path).inside(root) ?: return null
        return if (file.exists()) file else File(own, path).inside(own)?.takeIf(File::exists) ?: file
    }

    private fun File.inside(folder: File): File? =
        canonicalFile.takeIf { it.startsWith(folder.canonicalFile) && it != folder.canonicalFile }

    companion object {
        private const val OWN = "own/"

        /** The shared storage may be gone, as when a card was taken out; then the app's own storage, which adb does not reach. */
        fun of(context: Context) = Folders(context.getExternalFilesDir(null) ?: context.filesDir, File(context.noBackupFilesDir, "own"))

        private val NAME = Regex("[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")

        /** Whether a run's folder may be called so: the name comes from an intent, and must not be a way to another folder. */
        fun isName(name: String) = NAME.matches(name)
    }
}
