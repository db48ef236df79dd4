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
            for (folder in Kind.entries.map(::folder)) folder.listFiles().orEmpty().filter { it.name.startsWith(GOING) }.forEach(File::deleteRecursively)
        }

    fun remove(item: Item) {
        if (isInUse(item)) return tell(R.string.delete_in_use, item)
        background.execute {
            val file = File(folder(item.kind), item.name)
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
        val path = File(folder(item.kind), item.name).canonicalFile
        return requests.read(run.name)?.paths.orEmpty().any { folders.below(it)?.startsWith(path) == true }
    }

    private fun tell(words: Int, item: Item) = store.update { it.copy(message = context.getString(words, item.name)) }

    private fun folder(kind: Kind) =
        when (kind) {
            Kind.RUN -> folders.runs
            Kind.BUNDLE -> folders.bundles
            Kind.DATA -> folders.data
        }

    private companion object {
        const val GOING = ".deleting-"
    }
}
