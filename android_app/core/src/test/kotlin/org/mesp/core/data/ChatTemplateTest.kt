package org.mesp.core.data

import java.io.File
import java.time.LocalDateTime
import kotlinx.serialization.json.Json
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.assertThrows
import org.junit.jupiter.api.io.TempDir
import org.mesp.core.UsageException

class ChatTemplateTest {
    @TempDir
    lateinit var folder: File

    private val template = Json.decodeFromString<ChatTemplate>(CHAT)

    private val now = LocalDateTime.of(2026, 3, 7, 12, 0)

    @Test
    fun `a date is written where its format is, and line feeds are left out before a content`() {
        val dated = CHAT.replace("S: be kind", "\ufdd0%d %b %Y, %m/%y, %B\ufdd0").replace("\"after\": \"</s>\\n\", \"trim\": \"\"", "\"after\": \"</s>\\n\", \"trim\": \"lines\"")
        val made = Json.decodeFromString<ChatTemplate>(dated).render(messages("user" to "a", "assistant" to "\n\n b\n"), now).single()
        assertEquals("<s>07 Mar 2026, 03/26, March\nU: a\nA:  b\n</s>\n", made.text)
    }

    private fun messages(vararg messages: Pair<String, String>) = messages.map { Message(it.first, it.second) }

    private fun rendered(vararg messages: Pair<String, String>) = template.render(messages(*messages), now).single()

    private fun parts(rendered: Rendered) = rendered.turns.map {
        val text = rendered.text
        text.substring(text.offsetByCodePoints(0, it.start), text.offsetByCodePoints(0, it.end))
    }

    @Test
    fun `messages are written by their role and place, and the assistant's turns are found without their blanks`() {
        val made = rendered("user" to " 👍\u00a0\n", "assistant" to " yes\n\n", "user" to "", "assistant" to "")
        assertEquals("<s>S: be kind\nU: 👍\nA:  yes\n\n</s>\nU: \nA: </s>\n", made.text)
        assertEquals(listOf(" yes\n\n</s>", "</s>"), parts(made))
    }

    @Test
    fun `a conversation that begins with the system's turn has no other`() {
        val made = rendered("system" to " be brief ", "user" to "a", "assistant" to "b")
        assertEquals("<s>S:  be brief \nU: a\nA: b</s>\n", made.text)
    }

    @Test
    fun `a marked turn ends where the marks do`() {
        val changed = CHAT.replace("\"marked\": null", "\"marked\": 5").replace("\"skip\": 3", "\"skip\": 1")
        val marked = Json.decodeFromString<ChatTemplate>(changed)
        assertEquals(listOf(": yes</s>\n"), parts(marked.render(messages("user" to "a", "assistant" to "yes"), now).single()))
    }

    @Test
    fun `a role that is not in the table is refused`() {
        for (messages in listOf(arrayOf("user" to "a", "system" to "b"), arrayOf("user" to "a", "tool" to "b"))) {
            val message = assertThrows<UsageException> { rendered(*messages) }.message!!
            assertTrue(message.startsWith("messages[1] has the role ${messages[1].first}, which"), message)
        }
        val ends = assertThrows<UsageException> { rendered("system" to "a") }.message!!
        assertTrue(ends.startsWith("messages[0] has the role system, which"), ends)
    }

    @Test
    fun `a content that the template writes in a way of its own is refused by what it is`() {
        val system = "\"trim\": \"end\", \"filled\": true, \"refuses\": [\"/no_think\", \"/think\"], \"last\": false"
        val template = Json.decodeFromString<ChatTemplate>(CHAT.replace("\"trim\": \"\", \"last\": false", system))
        fun render(content: String) = template.render(messages("system" to content, "user" to "/think", "assistant" to "b"), now).single().text
        assertEquals("<s>S:  be brief\nU: /think\nA: b</s>\n", render(" be brief \n\u2028"))
        val refused = mapOf("be brief /no_think" to "has /no_think in its content", " \n" to "has no content", "" to "has no content")
        for ((content, words) in refused) {
            val message = assertThrows<UsageException> { render(content) }.message!!
            assertTrue(message.startsWith("messages[0] of the role system $words, which"), message)
        }
    }

    @Test
    fun `where the last answer is written in a way of its own, each one that is trained on is a text that ends with it`() {
        val thinking = """"marked": null, "thinking": {"before": "<think>\n", "after": "\n</think>\n\n"}, "refused": [["<tool>", "</tool>"]]"""
        val template = Json.decodeFromString<ChatTemplate>(CHAT.replace("\"marked\": null", thinking))
        val (first, second) = listOf("<think>\n\nwell\n</think>\n\nyes", "\nno")
        val made = template.render(messages("user" to "a", "assistant" to first, "user" to "b", "assistant" to second), now)
        assertEquals(
            listOf(
                "<s>S: be kind\nU: a\nA: <think>\nwell\n</think>\n\nyes</s>\n",
                "<s>S: be kind\nU: a\nA: yes</s>\nU: b\nA: <think>\n\n</think>\n\nno</s>\n",
            ),
            made.map { it.text },
        )
        assertEquals(listOf("<think>\nwell\n</think>\n\nyes</s>", "<think>\n\n</think>\n\nno</s>"), made.flatMap(::parts))
        val untrained = template.render(listOf(Message("user", "a"), Message("assistant", "b", train = false)), now)
        assertEquals(listOf(emptyList<Span>()), untrained.map { it.turns })
        assertThrows<UsageException> { template.render(messages("user" to "<tool>x</tool>", "assistant" to "b"), now) }
    }

    @Test
    fun `only what the assistant writes is a target`() {
        writeTokenizer(folder, CHAT)
        val rows = File(folder, "rows.jsonl")
        rows.writeText("""{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b c"}]}""")
        val (example) = loadData(rows, 100, 200, folder).first.examples
        assertEquals("b c".map { it.code } + 2, example.targets.filter { it != MASKED })
        assertEquals(1, example.inputIds[0])
    }

    @Test
    fun `a template that is missing or not resolved is refused by the row`() {
        val rows = File(folder, "rows.jsonl")
        rows.writeText("""{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}""")
        val unsupported = """{"unsupported": "it writes the date"}"""
        for ((chat, words) in mapOf("null" to "has no chat template", unsupported to "on a phone: it writes the date. Train")) {
            writeTokenizer(folder, chat)
            val message = assertThrows<UsageException> { loadData(rows, 100, 200, folder) }.message!!
            assertTrue(message.startsWith("$rows, line 1: ") && words in message, message)
        }
    }
}
