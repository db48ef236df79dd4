package org.mesp.app

import android.view.View
import android.widget.TextView

/** Shows a view, or takes it out of the layout. */
fun View.show(on: Boolean) {
    val wanted = if (on) View.VISIBLE else View.GONE
    if (visibility != wanted) visibility = wanted
}

/** Sets a text only if it is another one, and hides an empty view: setting the same again makes TalkBack speak again. */
fun TextView.say(words: CharSequence?) {
    show(!words.isNullOrEmpty())
    if (words != null && text.toString() != words.toString()) text = words
}

/** A message, which can be closed. */
class MessageView(screen: View, actions: Actions) {
    private val view: View = screen.findViewById(R.id.message)
    private val text: TextView = screen.findViewById(R.id.message_text)

    init {
        screen.findViewById<View>(R.id.message_close).setOnClickListener { actions.closeMessage() }
    }

    fun render(message: String?) {
        view.show(message != null)
        text.say(message)
    }
}
