package org.mesp.app.screens

import android.app.AlertDialog
import android.content.Context
import org.mesp.app.R
import org.mesp.app.state.Answer
import org.mesp.app.state.Kind
import org.mesp.app.state.Question
import org.mesp.app.state.Words

/** Asks the question that the state has, in a dialog, until it is answered or the screen is gone. */
class QuestionDialog(private val context: Context, private val actions: Actions) {
    private val words = Words(context)
    private var asked: Question? = null
    private var dialog: AlertDialog? = null

    fun render(question: Question?) {
        if (question == asked) return
        close()
        asked = question
        dialog = question?.let(::build)?.also { it.show() }
    }

    /** The question stays in the state: the next screen asks it again. */
    fun close() {
        dialog?.dismiss()
        dialog = null
        asked = null
    }

    private fun build(question: Question): AlertDialog {
        val builder = AlertDialog.Builder(context).setOnCancelListener { actions.answer(Answer.NO) }
        when (question) {
            is Question.Start -> start(builder, question)
            is Question.Delete -> delete(builder, question)
        }
        return builder.create()
    }

    private fun start(builder: AlertDialog.Builder, question: Question.Start) {
        val plugged = question.battery.plugged
        builder.setTitle(if (plugged) R.string.ask_saver else R.string.ask_start).setMessage(words.start(question))
        button(builder, R.string.start_now, R.string.cancel)
        if (!plugged) builder.setNeutralButton(R.string.start_charging) { _, _ -> actions.answer(Answer.OTHERWISE) }
    }

    private fun delete(builder: AlertDialog.Builder, question: Question.Delete) {
        val item = question.item
        val text =
            when (item.kind) {
                Kind.RUN -> R.string.delete_run
                Kind.BUNDLE -> R.string.delete_bundle
                Kind.DATA -> R.string.delete_data
            }
        builder.setTitle(context.getString(R.string.delete_question, item.name)).setMessage(context.getString(text, words.size(item.bytes)))
        button(builder, R.string.delete, R.string.keep)
    }

    private fun button(builder: AlertDialog.Builder, yes: Int, no: Int) {
        builder.setPositiveButton(yes) { _, _ -> actions.answer(Answer.YES) }
        builder.setNegativeButton(no) { _, _ -> actions.answer(Answer.NO) }
    }
}
