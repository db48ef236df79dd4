package org.mesp.core.data

import java.util.regex.Pattern

private const val WINDOW = 256

/**
 * Cuts text into words by regular expressions: each cuts the pieces that the one before leaves into what it matches and what is between. An
 * expression sees nothing beyond its piece. The text may come in parts: a word is told as soon as no more text can change it.
 *
 * On Android a matcher copies its whole input, up to version 10 for each match, so it is given a window of the text. What reaches the window's
 * end is looked for again in a larger one. So the work is in proportion to the text, however long its words are.
 *
 * @param expressions without lookbehind, as export makes them
 * @param receive told each word: where it begins and ends in [waiting]
 */
internal class Splitter(expressions: List<String>, private val receive: (Int, Int) -> Unit) {
    private val matchers = expressions.map { Pattern.compile(it, Pattern.UNICODE_CASE).matcher("") }
    private var tried = 0

    /** Text that was not cut yet. */
    val waiting = StringBuilder()

    /** Characters that matchers were given, for each match again. */
    var work = 0L
        private set

    fun clear() {
        waiting.clear()
        tried = 0
    }

    /** Cuts the text that is waiting as far as it can be, if [last] to its end, and returns how far. */
    fun cut(last: Boolean): Int {
        // A word that is longer than all the text so far waits until there is twice as much, or each part would read it anew.
        if (!last && waiting.length < 2 * tried) return 0
        val done = cut(0, waiting.length, 0, last)
        tried = if (last) 0 else waiting.length - done
        return done
    }

    private fun cut(start: Int, end: Int, level: Int, last: Boolean): Int {
        if (level == matchers.size) return if (last) end.also { receive(start, end) } else start
        var done = start
        var window = WINDOW
        while (done < end) {
            val until = minOf(end.toLong(), done.toLong() + window).toInt()
            val reached = cutWindow(done, until, level, last && until == end)
            if (reached == done && until == end) break
            window = if (reached == done) 2 * window else WINDOW
            done = reached
        }
        return done
    }

    /** Cuts a part of the text, if [last] to its end, else as far as what follows it can change nothing, and returns how far. */
    private fun cutWindow(start: Int, end: Int, level: Int, last: Boolean): Int {
        val matcher = matchers[level].reset(waiting.substring(start, end))
        var done = start
        while (true) {
            work += end - start
            val found = matcher.find()
            if (!last && (!found || matcher.hitEnd() || matcher.end() == end - start)) return done
            val from = if (found) start + matcher.start() else end
            val to = if (found) start + matcher.end() else end
            if (from > done) cut(done, from, level + 1, true)
            if (to > from) cut(from, to, level + 1, true)
            done = to
            if (!found) return done
        }
    }
}
