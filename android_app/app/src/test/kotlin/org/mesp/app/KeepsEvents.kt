package org.mesp.app

import java.io.File
import org.junit.rules.TestWatcher
import org.junit.runner.Description
import org.mesp.app.phone.Logcat
import org.robolectric.shadows.ShadowLog

/** Leaves what a test's app wrote to logcat where tests/test_runs.py holds it against the contract. */
class KeepsEvents : TestWatcher() {
    override fun finished(description: Description) {
        val kept = File(System.getProperty("mesp.runs") ?: return).resolveSibling("events.jsonl")
        kept.parentFile!!.mkdirs()
        ShadowLog.getLogsForTag(Logcat.TAG).forEach { kept.appendText(it.msg + "\n") }
    }
}
