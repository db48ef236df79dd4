package org.mesp.core.data

import java.io.File
import java.util.zip.GZIPOutputStream
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.DynamicTest
import org.junit.jupiter.api.DynamicTest.dynamicTest
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.TestFactory
import org.junit.jupiter.api.assertThrows
import org.junit.jupiter.api.io.TempDir
import org.mesp.core.UsageException

class RowsTest {
    @TempDir
    lateinit var folder: File

    private fun rows(file: File, columns: String? = null): List<Row> = ArrayList<Row>().also { rows -> forEachRow(file, columns) { rows += it } }

    private fun row(json: String, columns: String? = null): Row =
        rows(File(folder, "row.jsonl").apply { writeText(json) }, columns).single()

    private fun refused(name: String, content: ByteArray, words: String) {
        val file = File(folder, name).apply { writeBytes(content) }
        val message = assertThrows<UsageException> { rows(file) }.message!!
        assertTrue(message.startsWith("$folder/") && words in message, message)
    }

    private fun zipped(text: String): ByteArray {
        val file = File(folder, "zipped")
        GZIPOutputStream(file.outputStream()).use { it.write(text.toByteArray()) }
        return file.readBytes()
    }

    @Test
    fun `every format holds the same rows`() {
        val csv = "prompt,completion\r\n\"Who's \"\"there\"\",\n\n\",\"Nay,\u2028answer me\"\r\n\r\n\"to be\r\",你\"好\n"
        val lines = "\n{\"prompt\": \"Who's \\\"there\\\",\\n\\n\", \"completion\": \"Nay,\u2028answer me\"}\n \t\n" +
            "{\"completion\": \"\\u4f60\\\"好\", \"other\": [1.5e3, null, {\"a\": true}], \"prompt\": \"to be\\r\"}"
        for ((name, text) in listOf("a.csv" to csv, "a.CSV" to csv, "a.jsonl" to lines, "a.json" to lines, "a" to lines)) {
            for (compressed in listOf(false, true)) {
                val file = File(folder, if (compressed) "$name.gz" else name)
                file.writeBytes(if (compressed) zipped("\uFEFF" + text) else text.toByteArray())
                val read = rows(file).map { it as CompletionRow }
                val expected = listOf("Who's \"there\",\n\n" to "Nay,\u2028answer me", "to be\r" to "你\"好")
                assertEquals(expected, read.map { it.prompt to it.completion })
                assertEquals("$file, line ${if ("csv" in name.lowercase()) 6 else 4}", read[1].where)
            }
        }
    }

    @Test
    fun `a text keeps its line ends, and the last value of a key counts`() {
        val file = File(folder, "a.txt").apply { writeText("\uFEFFone\r\n\ntwo\uFEFF") }
        assertEquals("one\r\n\ntwo\uFEFF", (rows(file).single() as TextRow).text)
        file.writeText(" \n\u0085")
        assertEquals(emptyList<Row>(), rows(file))
        val lines = File(folder, "a.jsonl").apply { writeText("""{"text": "a", "text": "b"}""") }
        assertEquals("b", (rows(lines).single() as TextRow).text)
    }

    @TestFactory
    fun `a damaged file is refused by its line`(): List<DynamicTest> = listOf(
        Triple("a.jsonl.gz", zipped("{\"text\": \"a\"}\n".repeat(3)).dropLast(12).toByteArray(), ", after line"),
        Triple("a.txt.gz", "not compressed".toByteArray(), "a.txt.gz, after line 0: cannot be read"),
        Triple("a.txt", "one\ntw".toByteArray() + 0xFF.toByte(), "a.txt, line 2: not UTF-8 text"),
        Triple("a.jsonl", "{\"text\": \"a\"}\n{\"text\": \"".toByteArray() + 0xFF.toByte(), "a.jsonl, line 2: not UTF-8 text"),
        Triple("a.jsonl.bz2", ByteArray(0), "Decompress it first"),
        Triple("a.txt.XZ", ByteArray(0), "Decompress it first"),
        Triple("a.parquet", ByteArray(0), "Parquet is not read on a phone"),
        Triple("a.parquet.gz", ByteArray(0), "Parquet is not read on a phone"),
        Triple("a.jsonl.zst", ByteArray(0), "Decompress it first"),
        Triple("a.docx", ByteArray(0), "a.docx: .docx files are not read"),
        Triple("a.tar.gz", ByteArray(0), "a.tar.gz: .tar files are not read"),
        Triple("a.json", "[{\"text\": \"a\"}".toByteArray(), "a.json: not a JSON list (it has no end)"),
        Triple("a.json", "[{\"text\": \"a\"},]".toByteArray(), "a.json: not a JSON list (an item is missing)"),
        Triple("a.json", "[{\"text\": \"a\"}}".toByteArray(), "a.json: not a JSON list (it ends in })"),
        Triple("a.json", "[{\"text\": a}]".toByteArray(), "a.json: not a JSON list (a is no value)"),
        Triple("a.json", "[{\"text\": \"a\"}]\n[]".toByteArray(), "a.json: not a JSON list"),
        Triple("a.csv", "text,text\na,b\n".toByteArray(), "a.csv, line 1: the header has \"text\" twice"),
        Triple("a.csv", "text,more\na,b\n\"c\nd\",e\nf\n".toByteArray(), "a.csv, line 5: 1 fields, but the header has 2"),
        Triple("a.csv", "text\n\"a\"b\n".toByteArray(), "a.csv, line 2: not CSV (',' expected after '\"')"),
        Triple("a.csv", "text\na\n\"b\n\n".toByteArray(), "a.csv, line 3: not CSV (unexpected end of data)"),
        Triple("a.csv", "text\na\rb\n".toByteArray(), "a.csv, line 2: not CSV (carriage return"),
        Triple("a.csv", "prompt,answer\na,b\n".toByteArray(), "a.csv, line 2: A row has \"text\", or"),
    ).map { (name, content, words) -> dynamicTest("$name $words") { refused(name, content, words) } }

    @TestFactory
    fun `a malformed row is refused by its line`(): List<DynamicTest> {
        val ids = """{"input_ids": [1, 2], "labels": [1, 2]}"""
        val chat = """{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}"""
        fun messages(second: String) = """{"messages": [{"role": "user", "content": "a"}, $second]}"""
        return listOf(
            Triple(ids, "{", "not JSON"),
            Triple(ids, "[".repeat(100_000), "not JSON (more than 900 levels"),
            Triple(ids, "[".repeat(100_000) + "]".repeat(100_000), "not JSON (more than 900 levels"),
            Triple(ids, "{\"text\": word}", "not JSON (word is no value"),
            Triple(ids, "{text: 1}", "not JSON (text is no value"),
            Triple(ids, "{\"input_ids\": [01], \"labels\": [1]}", "not JSON (01 is no value"),
            Triple(ids, "{\"text\": \"a\tb\"}", "not JSON (a control character"),
            Triple(ids, "{\"text\": \"a\"} {}", "not JSON"),
            Triple(ids, "{\"text\": \"a\",}", "not JSON"),
            Triple(ids, "{\"text\": \"\\x\"}", "not JSON"),
            Triple(ids, "{\"text\": \"a", "not JSON"),
            Triple(ids, "[1, 2]", "[1,2] is not an object"),
            Triple(ids, """{"prompt": "a"}""", "$EXPECTED; this one has \"prompt\""),
            Triple(ids, "{}", "$EXPECTED; this one has nothing"),
            Triple(ids, """{"text": "a", "messages": []}""", "the row is one of \"text\" and of \"messages\""),
            Triple(ids, """{"text": "a"}""", "\"text\" after rows of \"input_ids\", \"labels\""),
            Triple(ids, """{"input_ids": [1, 2], "labels": [1]}""", "2 input_ids but 1 labels"),
            Triple(ids, """{"input_ids": [1, "2"], "labels": [1, 2]}""", "\"input_ids\" must be a list of whole numbers"),
            Triple(ids, """{"input_ids": [1, 2], "labels": [1, true]}""", "\"labels\" must be a list of whole numbers"),
            Triple(ids, """{"input_ids": [1, 2.0], "labels": [1, 2]}""", "\"input_ids\" must be a list of whole numbers"),
            Triple(ids, """{"input_ids": {}, "labels": [1, 2]}""", "\"input_ids\" must be a list of whole numbers"),
            Triple("""{"text": "a"}""", """{"text": 5}""", "\"text\" must be a string, not 5"),
            Triple("""{"text": "a"}""", """{"text": "\ud800"}""", "\"text\" is not Unicode text"),
            Triple("""{"prompt": "a", "completion": "b"}""", """{"prompt": "a", "completion": null}""", "\"completion\" must be a string"),
            Triple(chat, """{"messages": []}""", "\"messages\" must be a list of"),
            Triple(chat, """{"messages": "a"}""", "\"messages\" must be a list of"),
            Triple(chat, messages("\"b\""), "messages[1] must be"),
            Triple(chat, messages("""{"role": "bot", "content": "b"}"""), "messages[1] has the role 'bot'. Roles are system, user"),
            Triple(chat, messages("""{"content": "b"}"""), "messages[1] has the role null"),
            Triple(chat, messages("""{"role": "assistant", "content": ["b"]}"""), "messages[1][\"content\"] must be a string, not [\"b\"]"),
            Triple(chat, messages("""{"role": "assistant"}"""), "messages[1][\"content\"] must be a string, not null"),
            Triple(chat, messages("""{"role": "assistant", "content": "b", "tool_calls": [1]}"""), "messages[1] has \"tool_calls\""),
            Triple(chat, chat.dropLast(1) + ", \"tools\": [1]}", "\"tools\" would change what is trained on"),
            Triple(chat, """{"messages": [{"role": "user", "content": "a"}]}""", "no message is the assistant's"),
            Triple(chat, """{"messages": [{"role": "assistant", "content": "a"}]}""", "the first message is the assistant's"),
        ).map { (good, bad, words) ->
            dynamicTest(words) { refused("rows.jsonl", "$good\n\n$bad\n".toByteArray(), "rows.jsonl, line 3: $words") }
        }
    }

    @Test
    fun `empty tools and nulls are nothing, as in Python`() {
        val file = File(folder, "a.jsonl")
        val user = """{"role": "user", "content": "a", "name": null}"""
        file.writeText("""{"messages": [$user, {"role": "assistant", "content": "b"}], "tools": []}""")
        assertEquals(listOf("a", "b"), (rows(file).single() as MessagesRow).messages.map { it.content })
    }

    @Test
    fun `lists, tabs and Markdown are read`() {
        val list = File(folder, "a.json").apply { writeText("\n [{\"text\": \"a\"},\n {\"text\": \"b\"}]\n") }
        assertEquals(listOf("$list, row 1" to "a", "$list, row 2" to "b"), rows(list).map { it.where to (it as TextRow).text })
        val tabs = File(folder, "a.tsv").apply { writeText("text\tid\n\"a\nb\"\t1\nc, d\t2\n") }
        assertEquals(listOf("a\nb", "c, d"), rows(tabs).map { (it as TextRow).text })
        val page = File(folder, "a.md").apply { writeText("# One\n") }
        assertEquals(Kind.FILE, rows(page).single().kind)
    }

    @Test
    fun `padding is left out`() {
        val padded = row("""{"input_ids": [0, 0, 1, 2, 0], "labels": [-100, -100, 1, 2, -100], "attention_mask": [0, 0, 1, 1, 0], "position_ids": [1, 1, 0, 1, 1]}""")
        assertEquals(listOf(1L, 2L) to listOf(1L, 2L), (padded as IdsRow).let { it.ids to it.labels })
    }

    @Test
    fun `marks, other formats and columns by other names are followed`() {
        fun messages(json: String, columns: String? = null) = (row(json, columns) as MessagesRow).messages
        val ask = Message("user", "a")
        val marked = """{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", MARK}]}"""
        assertEquals(listOf(ask, Message("assistant", "b", train = false)), messages(marked.replace("MARK", "\"weight\": 0")))
        assertEquals(listOf(ask, Message("assistant", "b", train = false)), messages(marked.replace("MARK", "\"train\": false")))
        assertEquals(listOf(ask, Message("assistant", "b")), messages(marked.replace("MARK", "\"weight\": 1.0, \"name\": []")))
        val shared = """{"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}], "system": "s", "id": 1}"""
        assertEquals(listOf(Message("system", "s"), ask, Message("assistant", "b")), messages(shared))
        val alpaca = """{"instruction": "a", "input": "b", "output": "c"}"""
        assertEquals(listOf(Message("user", "a\nb"), Message("assistant", "c")), messages(alpaca))
        assertEquals(listOf(ask, Message("assistant", "c")), messages(alpaca, "instruction=instruction,output=output"))
        val pair = row("""{"question": "a", "answer": "b", "prompt": "c", "messages": 1}""", "prompt=question, completion=answer")
        assertEquals("a" to "b", (pair as CompletionRow).let { it.prompt to it.completion })
        assertEquals("a", (row("""{"text": "a", "prompt": "b", "completion": "c"}""", "text=text") as TextRow).text)
    }

    @TestFactory
    fun `a key that would change the meaning is refused`(): List<DynamicTest> {
        val ids = """"input_ids": [1, 2, 3], "labels": [1, 2, 3]"""
        val pair = """"prompt": "a", "completion": "b""""
        val chat = """{"messages": [{"role": "user", "content": "a"USER}, {"role": "assistant", "content": "b"MARK}]}"""
        fun marked(mark: String) = chat.replace("USER", "").replace("MARK", ", $mark")
        return listOf(
            """{$ids, "attention_mask": [1, 0, 1]}""" to "\"attention_mask\" must be of 1",
            """{$ids, "attention_mask": [1, 1]}""" to "3 input_ids but 2 attention_mask",
            """{$ids, "attention_mask": [1, 1, 0]}""" to "labels[2] is a target",
            """{$ids, "position_ids": [0, 1, 0]}""" to "\"position_ids\" must count up by one",
            """{$ids, "loss_mask": [0, 1, 1]}""" to "\"loss_mask\" would change",
            """{$ids, "weight": 0}""" to "\"weight\" would change",
            """{$pair, "label": false}""" to "\"label\" would change",
            """{$pair, "system": "s"}""" to "\"system\" would change",
            """{"text": "a", "train": false}""" to "\"train\" would change",
            """{"instruction": "a", "output": "b", "history": [["c", "d"]]}""" to "\"history\" would change",
            marked("\"weight\": 0.5") to "messages[1][\"weight\"] must be 0 or 1, not 0.5",
            marked("\"weight\": true") to "messages[1][\"weight\"] must be 0 or 1",
            marked("\"train\": 1") to "messages[1][\"train\"] must be true or false",
            marked("\"weight\": 1, \"train\": false") to "messages[1] has a \"weight\" and a \"train\" that say the opposite",
            chat.replace("USER", ", \"train\": true").replace("MARK", "") to "messages[0] is marked to be trained on",
            """{"conversations": [{"from": "narrator", "value": "a"}]}""" to "conversations[0] is from \"narrator\". Known are system,",
            """{"conversations": [{"role": "system", "content": "a"}], "system": "b"}""" to "\"system\" stands beside",
        ).map { (json, words) -> dynamicTest(words) { refused("rows.jsonl", json.toByteArray(), "rows.jsonl, line 1: $words") } }
    }

    @Test
    fun `a key may be there where it says nothing, or in a row that it is not about`() {
        for (more in listOf("\"weight\": 1.0", "\"train\": true", "\"tools\": []", "\"label\": 0", "\"system\": \"s\"", "\"id\": {}")) {
            assertEquals("a", (row("""{"text": "a", $more}""") as TextRow).text)
        }
        assertEquals("b", (row("""{"prompt": "a", "completion": "b", "label": 3}""") as CompletionRow).completion)
    }

    @Test
    fun `columns that cannot be are refused`() {
        for ((columns, words) in listOf("prompt" to "is not KEY=COLUMN", "a=b" to "a is no key of a row", "text=a,text=b" to "there twice")) {
            assertTrue(words in assertThrows<UsageException> { readColumns(columns) }.message!!)
        }
        assertTrue("has no \"gone\"" in assertThrows<UsageException> { row("{\"a\": 1}", "text=gone") }.message!!)
    }

    @Test
    fun `no file is refused`() {
        val message = assertThrows<UsageException> { rows(File(folder, "absent.txt")) }.message!!
        assertEquals("There is no data file at $folder/absent.txt.", message)
    }
}

private val TextRow.text: String get() = StringBuilder().also { whole -> parts { whole.append(it) } }.toString()
