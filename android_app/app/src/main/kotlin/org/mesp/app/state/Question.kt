package org.mesp.app.state

import org.mesp.app.phone.Battery

/** What kinds of files there are. */
enum class Kind { RUN, BUNDLE, DATA }

/** Something in the app's files. */
data class Item(val kind: Kind, val name: String, val bytes: Long)

/** What the person is asked before it is done. */
sealed class Question {
    /** Whether to start on the battery; [estimate] where it is known. */
    data class Start(val battery: Battery, val leastPercent: Int, val estimate: Estimate?) : Question()

    data class Delete(val item: Item) : Question()
}

/** Of a question's buttons. */
enum class Answer { YES, OTHERWISE, NO }
