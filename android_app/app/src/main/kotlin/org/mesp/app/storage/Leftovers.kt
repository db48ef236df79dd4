package org.mesp.app.storage

import java.io.File
import java.io.IOException
import org.mesp.app.phone.Logcat
import org.mesp.core.sha256

/** What was left where it should not be: half a copy, as when the process was killed, and texts that an earlier version kept in external storage. */
class Leftovers(private val folders: Folders, private val preferences: Preferences) {
    /** Not while a copy is made. */
    fun clear() {
        for (folder in folders.allBundles + folders.allData) {
            for (name in listOf(Importer.NEW, Importer.LIFTED)) File(folder, name).deleteRecursively()
        }
        if (preferences.textsTakenIn) return
        // Once: what is found there later was put there by someone who knows where it is.
        val texts = folders.data.listFiles().orEmpty().filter { it.isFile && !it.name.startsWith(".") && !isSent(it) }
        preferences.textsTakenIn = texts.map(::takeIn).all { it }
    }

    /** Whether a harness sent it: such names tell the contents, as in rows-0123abcd.jsonl. */
    private fun isSent(file: File): Boolean = SENT.find(file.name)?.let { sha256(file).startsWith(it.groupValues[1]) } ?: false

    private fun takeIn(file: File): Boolean =
        try {
            val place = freePlace(folders.allData, folders.ownData.apply { mkdirs() }, file.name, except = file)
            val new = File(folders.ownData, Importer.NEW)
            file.copyTo(new, overwrite = true)
            if (!new.renameTo(place) || !file.delete()) throw IOException("$file stays")
            true
        } catch (error: IOException) { // a full storage: the next start tries again
            File(folders.ownData, Importer.NEW).delete()
            Logcat.error("import", null, error.message.orEmpty(), error)
            false
        }

    private companion object {
        val SENT = Regex("-([0-9a-f]{8})(\\.[^/]*)?$")
    }
}

/** A name in [folder] that nothing in [all] has but [except]: as it is, or with a number. */
internal fun freePlace(all: List<File>, folder: File, name: String, except: File? = null): File {
    val (stem, end) = if ('.' in name) name.substringBeforeLast('.') to "." + name.substringAfterLast('.') else name to ""
    return generateSequence(1) { it + 1 }
        .map { if (it == 1) name else "$stem-$it$end" }
        .first { free -> all.none { File(it, free) != except && File(it, free).exists() } }
        .let { File(folder, it) }
}
