package org.mesp.app.screens

import android.view.LayoutInflater
import android.view.View
import android.widget.ImageButton
import android.widget.LinearLayout
import android.widget.TextView
import org.mesp.app.R
import org.mesp.app.state.Item
import org.mesp.app.state.Kind
import org.mesp.app.state.UiState
import org.mesp.app.state.Words

/** All runs with what they came to, and all models and texts; each with its size, and a button to remove it. */
class FilesScreen(private val view: View, private val actions: Actions) {
    private class Line(val item: Item, val facts: String)

    private val context = view.context
    private val words = Words(context)
    private val message = MessageView(view, actions)

    init {
        view.findViewById<View>(R.id.files_back).setOnClickListener { actions.back() }
    }

    fun render(state: UiState) {
        message.render(state.message)
        render(R.id.files_runs, R.string.no_runs, state.runs.map { Line(Item(Kind.RUN, it.name, it.bytes), words.facts(it)) }, actions::open)
        render(R.id.files_bundles, R.string.no_bundles, state.bundles.map { Line(Item(Kind.BUNDLE, it.name, it.bytes), words.bundle(it)) })
        render(R.id.files_data, R.string.no_data, state.data.map { Line(Item(Kind.DATA, it.name, it.bytes), words.size(it.bytes)) })
    }

    private fun render(id: Int, none: Int, lines: List<Line>, open: ((String) -> Unit)? = null) {
        val list: LinearLayout = view.findViewById(id)
        val shown = lines.map { it.item to it.facts }
        if (list.tag == shown) return
        list.tag = shown
        list.removeAllViews()
        if (lines.isEmpty()) {
            val row = LayoutInflater.from(context).inflate(R.layout.row_empty, list, false) as TextView
            row.setText(none)
            list.addView(row)
        }
        for (line in lines) list.addView(row(list, line, open))
    }

    private fun row(list: LinearLayout, line: Line, open: ((String) -> Unit)?): View {
        val row = LayoutInflater.from(context).inflate(R.layout.row_file, list, false)
        val text: TextView = row.findViewById(R.id.file_text)
        text.nameAndFacts(line.item.name, line.facts)
        if (open == null) text.background = null else text.setOnClickListener { open(line.item.name) }
        val delete: ImageButton = row.findViewById(R.id.file_delete)
        delete.contentDescription = context.getString(R.string.delete_named, line.item.name)
        delete.setOnClickListener { actions.askToDelete(line.item) }
        return row
    }
}
