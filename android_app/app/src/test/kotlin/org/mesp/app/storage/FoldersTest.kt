package org.mesp.app.storage

import org.junit.Assert.assertFalse
import org.junit.Assert.assertTrue
import org.junit.Test

/** Names of the app's files. */
class FoldersTest {
    @Test
    fun `a run may not be named like a way elsewhere`() {
        for (name in listOf("a", "2026-11-24_1617", "x.y")) assertTrue(name, Folders.isName(name))
        for (name in listOf("", ".", "..", "a/b", "../a", ".a", "a b")) assertFalse(name, Folders.isName(name))
    }
}
