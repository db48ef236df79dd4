package org.mesp.core.data

import java.io.File
import org.mesp.core.UsageException

/**
 * The names of the columns that a data file has and that are not read, by its first rows.
 *
 * @param rows how many are looked at: a person waits for the answer
 * @throws UsageException the file, or one of these rows, cannot be trained on
 */
fun columnsNotRead(path: File, rows: Int = 200): List<String> {
    val format = path.name.lowercase().removeSuffix(".gz").substringAfterLast('.', "")
    if (format in SUFFIXES.getValue("text")) return emptyList()
    val found = sortedSetOf<String>()
    var seen = 0
    try {
        forEachRow(path, notRead = { found += it }) { if (++seen >= rows) throw Enough }
    } catch (_: Enough) {
        // What is below is looked at when it is trained on.
    }
    return found.toList()
}

private object Enough : RuntimeException() {
    private fun readResolve(): Any = Enough

    override fun fillInStackTrace() = this
}
