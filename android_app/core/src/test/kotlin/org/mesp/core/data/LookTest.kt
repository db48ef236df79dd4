package org.mesp.core.data

import java.io.File
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.assertThrows
import org.junit.jupiter.api.io.TempDir
import org.mesp.core.UsageException

/** What a data file's first rows tell before it is trained on. */
class LookTest {
    @TempDir
    lateinit var folder: File

    private fun notRead(name: String, content: String, rows: Int = 200) =
        columnsNotRead(File(folder, name).apply { writeText(content) }, rows)

    @Test
    fun `columns beside those of the rows' kind are not read`() {
        assertEquals(listOf("id", "source"), notRead("a.jsonl", "{\"text\": \"a\", \"source\": 1, \"gone\": null}\n{\"id\": 2, \"text\": \"b\"}"))
        assertEquals(listOf("note"), notRead("a.csv", "prompt,completion,note\na,b,c\n"))
        assertEquals(emptyList<String>(), notRead("b.jsonl", "{\"instruction\": \"a\", \"input\": \"\", \"output\": \"b\"}"))
        assertEquals(emptyList<String>(), notRead("a.txt", "{\"not\": \"rows\"}"))
    }

    @Test
    fun `the first rows alone are looked at`() {
        assertEquals(listOf("a"), notRead("a.jsonl", "{\"text\": \"a\", \"a\": 1}\n{\"text\": \"b\", \"b\": 1}\nno JSON", rows = 1))
    }

    @Test
    fun `a file that cannot be trained on is refused at once`() {
        assertTrue("has \"a\"" in assertThrows<UsageException> { notRead("a.jsonl", "{\"a\": 1}") }.message!!)
        assertTrue("is not supported" in assertThrows<UsageException> { notRead("a.jsonl", "{\"text\": \"a\", \"tools\": [1]}") }.message!!)
    }
}
