package org.mesp.app.screens

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
