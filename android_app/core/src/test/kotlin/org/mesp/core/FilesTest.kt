package org.mesp.core

import java.io.File
import java.io.IOException
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir

class FilesTest {
    @TempDir lateinit var temporary: File

    private fun names() = temporary.list()!!.sorted()

    @Test
    fun `a folder appears whole, with folders in it, and takes the place of the one before`() {
        val output = File(temporary, "output")
        for (text in listOf("one", "two")) {
            folderThatAppearsWhole(output) { File(it, "inside").apply { mkdirs() }.resolve("file").writeText(text) }
            assertEquals(text, output.resolve("inside/file").readText())
            assertEquals(listOf("output"), names())
        }
    }

    @Test
    fun `what cannot be written leaves what was there`() {
        val output = File(temporary, "output")
        folderThatAppearsWhole(output) { it.resolve("file").writeText("one") }
        val error =
            assertThrows(MespException::class.java) {
                folderThatAppearsWhole(output) {
                    it.resolve("file").writeText("two")
                    throw IOException("write failed (No space left on device)")
                }
            }
        assertEquals("Could not write $output: No space left on device.", error.message)
        assertEquals("one", output.resolve("file").readText())
        assertEquals(listOf("output"), names())
    }

    @Test
    fun `a file is replaced whole or not at all`() {
        val file = File(temporary, "file")
        replacing(file) { it.writeText("one") }
        assertThrows(IOException::class.java) {
            replacing(file) {
                it.writeText("tw")
                throw IOException("no more")
            }
        }
        assertEquals("one", file.readText())
        assertEquals(listOf("file"), names())
    }
}
