package org.mesp.core.data

import java.io.File
import kotlinx.serialization.json.Json
import kotlinx.serialization.json.JsonElement
import kotlinx.serialization.json.JsonObject
import kotlinx.serialization.json.jsonArray
import kotlinx.serialization.json.jsonObject
import kotlinx.serialization.json.jsonPrimitive
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Test

/** The keys of rows are those that both runtimes share: rows.json of runtime/contract. */
class KeysTest {
    private val table: JsonObject by lazy {
        val folder = System.getProperty("mesp.contract") ?: error("No -Dmesp.contract. Run the tests by: make test-android")
        Json.parseToJsonElement(File(folder, "rows.json").readText()).jsonObject
    }

    private fun part(name: String) = table.getValue(name).jsonObject

    private fun strings(values: JsonElement?) = values?.jsonArray.orEmpty().map { it.jsonPrimitive.content }

    @Test
    fun `kinds, formats and roles are the shared ones`() {
        assertEquals(part("suffixes").mapValues { strings(it.value) }, SUFFIXES)
        assertEquals(part("kinds").mapValues { strings(it.value) }, Kind.entries.drop(1).associate { it.label to it.keys })
        assertEquals(part("foreign").mapValues { strings(it.value) }, FOREIGN)
        assertEquals(part("optional").mapValues { strings(it.value) }, OPTIONAL)
        assertEquals(strings(table["roles"]), ROLES)
        assertEquals(part("speakers").mapValues { it.value.jsonPrimitive.content }, SPEAKERS)
    }

    @Test
    fun `reserved keys are the shared ones`() {
        assertEquals(part("reserved").keys, RESERVED.keys)
        for ((name, rule) in part("reserved").mapValues { it.value.jsonObject }) {
            val mine = RESERVED.getValue(name)
            assertEquals(rule.getValue("instead").jsonPrimitive.content, mine.instead, name)
            assertEquals(rule["kinds"]?.let(::strings), mine.kinds, name)
            assertEquals(strings(rule["harmless"]), mine.harmless, name)
            assertEquals(strings(rule["harmful"]), mine.harmful, name)
        }
    }
}
