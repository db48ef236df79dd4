package org.mesp.app.screens

import android.view.View
import android.widget.TextView
import org.mesp.app.R

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
