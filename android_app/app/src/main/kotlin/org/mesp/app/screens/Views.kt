package org.mesp.app.screens

import android.text.SpannableStringBuilder
import android.text.Spanned
import android.text.style.ForegroundColorSpan
import android.text.style.RelativeSizeSpan
import android.view.View
import android.widget.Button
import android.widget.TextView
import org.mesp.app.R

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

/** Of a button that unfolds something: what it will do, and an arrow. */
fun Button.unfold(unfolded: Boolean, more: Int, less: Int) {
    say(context.getString(if (unfolded) less else more))
    setCompoundDrawablesRelativeWithIntrinsicBounds(0, 0, if (unfolded) R.drawable.ic_less else R.drawable.ic_more, 0)
}

/** A name, and smaller below it what there is to say of it. */
fun TextView.nameAndFacts(name: String, facts: String) {
    val words = SpannableStringBuilder(name).append('\n')
    val from = words.length
    words.append(facts)
    words.setSpan(RelativeSizeSpan(0.875f), from, words.length, Spanned.SPAN_EXCLUSIVE_EXCLUSIVE)
    words.setSpan(ForegroundColorSpan(context.getColor(R.color.ink_soft)), from, words.length, Spanned.SPAN_EXCLUSIVE_EXCLUSIVE)
    text = words
}
