package org.mesp.app.state

/** What kinds of files there are. */
enum class Kind { RUN, BUNDLE, DATA }

/** Something in the app's files. */
data class Item(val kind: Kind, val name: String, val bytes: Long)

/** What the person is asked before it is done. */
sealed class Question {
    data class Delete(val item: Item) : Question()
}

/** Of a question's buttons. */
enum class Answer { YES, OTHERWISE, NO }
