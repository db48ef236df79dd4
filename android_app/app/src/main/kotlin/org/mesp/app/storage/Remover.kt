package org.mesp.app.storage

import android.content.Context
import java.io.File
import java.util.concurrent.Executor
import org.mesp.app.R
import org.mesp.app.state.Item
import org.mesp.app.state.Kind
import org.mesp.app.state.Store

/** Removes runs, bundles and data. What is to go gets a hidden name first, so that nothing is ever half there. */
class Remover(
    private val context: Context,
    private val folders: Folders,
    private val requests: Requests,
    private val store: Store,
    private val shelf: Shelf,
    private val background: Executor,
) {
    /** What was begun when the process ended. */
    fun finish() =
        background.execute {
            for (folder in Kind.entries.flatMap(::folders)) folder.listFiles().orEmpty().filter { it.name.startsWith(GOING) }.forEach(File::deleteRecursively)
        }

    fun remove(item: Item) {
        if (isInUse(item)) return tell(R.string.delete_in_use, item)
        background.execute {
            val file = file(item)
            val going = File(file.parentFile, "$GOING${item.name}")
            going.deleteRecursively()
            val gone = file.renameTo(going)
            if (gone && item.kind == Kind.RUN) requests.delete(item.name)
            going.deleteRecursively()
            tell(if (gone && !going.exists()) R.string.deleted else R.string.delete_failed, item)
            shelf.refresh()
        }
    }

    private fun isInUse(item: Item): Boolean {
        val run = store.state.run?.takeIf { !it.status.ended } ?: return false
        if (item.kind == Kind.RUN) return item.name == run.name
        val path = file(item).canonicalFile
        return requests.read(run.name)?.paths.orEmpty().any { folders.below(it)?.startsWith(path) == true }
    }

    private fun tell(words: Int, item: Item) = store.update { it.copy(message = context.getString(words, item.name)) }

    /** As the list has it: of two with a name, the first. */
    private fun file(item: Item) = folders(item.kind).map { File(it, item.name) }.let { files -> files.find(File::exists) ?: files.first() }

    private fun folders(kind: Kind) =
        when (kind) {
            Kind.RUN -> listOf(folders.runs)
            Kind.BUNDLE -> folders.allBundles
            Kind.DATA -> folders.allData
        }

    private companion object {
        const val GOING = ".deleting-"
    }
}
