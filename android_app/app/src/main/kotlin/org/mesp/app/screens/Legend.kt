package org.mesp.app.screens

import android.content.Context
import android.text.SpannableStringBuilder
import android.text.Spanned
import android.text.style.ForegroundColorSpan
import org.mesp.app.R
import org.mesp.app.state.RunState
import org.mesp.app.state.Words

/** What a chart's colours mean, with the numbers: a text that wraps and that TalkBack reads. */
class Legend(private val context: Context) {
    private val words = Words(context)

    fun loss(run: RunState): CharSequence {
        val text = SpannableStringBuilder()
        if (run.steps.isNotEmpty()) {
            val mean = smooth(run.steps.map { it.loss }).last()
            add(text, R.color.train, context.getString(R.string.legend_train, words.loss(mean), smoothingWindow(run.steps.size)))
        }
        run.evaluations.lastOrNull()?.let { add(text, R.color.held_out, context.getString(R.string.legend_held_out, words.loss(it.loss))) }
        return text
    }

    /** The largest of each kind of phase in the last step. */
    fun memory(run: RunState): CharSequence {
        val text = SpannableStringBuilder()
        for ((kind, samples) in run.trace.groupBy { PhaseColours.kind(it.phase) }) {
            val largest = samples.maxOf { it.footprintBytes } - (run.baselineBytes ?: 0)
            add(text, PhaseColours.of(kind), context.getString(R.string.legend_phase, kind, words.megabytes(largest)))
        }
        return text
    }

    private fun add(text: SpannableStringBuilder, colour: Int, entry: String) {
        if (text.isNotEmpty()) text.append("    ")
        // With spaces that do not break: the mark stays with its name at a line's end.
        text.append("\u25CF\u00A0", ForegroundColorSpan(context.getColor(colour)), Spanned.SPAN_EXCLUSIVE_EXCLUSIVE)
        text.append(entry.replace(' ', '\u00A0'))
    }
}
