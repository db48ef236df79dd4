package org.mesp.core.training

import java.io.File
import kotlinx.serialization.json.Json
import kotlinx.serialization.json.JsonArray
import kotlinx.serialization.json.JsonElement
import kotlinx.serialization.json.JsonNull
import kotlinx.serialization.json.JsonObject
import kotlinx.serialization.json.JsonPrimitive
import kotlinx.serialization.json.boolean
import kotlinx.serialization.json.double
import kotlinx.serialization.json.doubleOrNull
import kotlinx.serialization.json.encodeToJsonElement
import kotlinx.serialization.json.int
import kotlinx.serialization.json.jsonArray
import kotlinx.serialization.json.jsonObject
import kotlinx.serialization.json.jsonPrimitive
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.mesp.core.UsageException
import org.mesp.core.generation.GenerateOptions
import org.mesp.core.memory.BETWEEN_STEPS
import org.mesp.core.memory.LOAD
import org.mesp.core.memory.Thinning
import org.mesp.core.report.FINISHED

/** Names, defaults and limits are those that both runtimes share: runtime/contract. */
class ContractTest {
    private fun schema(name: String): JsonObject {
        val folder = System.getProperty("mesp.contract") ?: error("No -Dmesp.contract. Run the tests by: make test-android")
        return Json.parseToJsonElement(File(folder, "$name.schema.json").readText()).jsonObject
    }

    private val settings = schema("settings").getValue("properties").jsonObject.mapValues { it.value.jsonObject }

    private fun strings(values: JsonElement?) = values!!.jsonArray.map { it.jsonPrimitive.content }

    @Test
    fun `settings have the shared names and defaults`() {
        val chosen = Json { encodeDefaults = true }.encodeToJsonElement(TrainSettings("rows.txt")).jsonObject
        assertEquals(settings.keys.toList(), chosen.keys.toList())
        for ((name, definition) in settings - "data") assertSame(name, definition["default"] ?: JsonNull, chosen[name])
        assertEquals(strings(settings.getValue("optimizer")["enum"]), TrainSettings.OPTIMIZERS.keys.toList())
        assertEquals(strings(settings.getValue("schedule")["enum"]), TrainSettings.SCHEDULES)
        val rates = settings.getValue("lr").getValue("default_by_optimizer").jsonObject
        assertEquals(rates.mapValues { it.value.jsonPrimitive.double }, TrainSettings.OPTIMIZERS)
        assertEquals(settings.getValue("eval_sequences").getValue("default_on_phone").jsonPrimitive.int, TrainSettings.EVAL_SEQUENCES_ON_PHONE)
        assertEquals(settings.filterValues { it.getValue("may_change_on_resume").jsonPrimitive.boolean }.keys, FREE)
    }

    @Test
    fun `options of generation have the shared names, defaults and limits`() {
        val options = schema("generation").getValue("properties").jsonObject.mapValues { it.value.jsonObject }
        val chosen = Json { encodeDefaults = true }.encodeToJsonElement(GenerateOptions()).jsonObject
        assertEquals(options.keys.toList(), chosen.keys.toList())
        for ((name, definition) in options) assertSame(name, definition["default"] ?: JsonNull, chosen[name])
        for ((name, definition) in options - "seed") {
            val limits = definition.filterKeys { it in setOf("minimum", "maximum", "exclusiveMinimum") }
            for ((word, value) in limits) {
                val limit = value.jsonPrimitive.double
                val beyond = if (word == "maximum") limit + 1 else limit - 1
                val beside = if (name == "temperature") emptyMap() else mapOf("temperature" to JsonPrimitive(1))
                fun accepts(number: Double): Boolean = try {
                    val given = if (definition["type"] == JsonPrimitive("integer")) JsonPrimitive(number.toLong()) else JsonPrimitive(number)
                    Json.decodeFromJsonElement(GenerateOptions.serializer(), JsonObject(beside + (name to given)))
                    true
                } catch (error: UsageException) {
                    name !in error.message!!
                }
                assertEquals(word != "exclusiveMinimum", accepts(limit), "$name $limit")
                assertEquals(false, accepts(beyond), "$name $beyond")
            }
        }
    }

    private fun assertSame(name: String, expected: JsonElement, found: JsonElement?) {
        val number = (expected as? JsonPrimitive)?.doubleOrNull
        if (number == null) assertEquals(expected, found, name) else assertEquals(number, found!!.jsonPrimitive.double, name)
    }

    @Test
    fun `settings have the shared limits`() {
        var tried = 0
        for ((name, definition) in settings) {
            val whole = "integer" in ((definition["type"] as? JsonArray)?.let(::strings) ?: strings(JsonArray(listOf(definition.getValue("type")))))
            for ((word, accepted) in mapOf("minimum" to true, "exclusiveMinimum" to false, "exclusiveMaximum" to false)) {
                val limit = definition[word]?.jsonPrimitive?.double ?: continue
                val beyond = if (word == "exclusiveMaximum") limit + 1 else limit - 1
                assertEquals(accepted, isAccepted(name, limit, whole), "$name $limit")
                assertEquals(false, isAccepted(name, beyond, whole), "$name $beyond")
                tried++
            }
        }
        assertTrue(tried > 12)
    }

    /** With what a setting needs beside it. */
    private fun isAccepted(name: String, value: Double, whole: Boolean): Boolean {
        val number = if (whole) JsonPrimitive(value.toLong()) else JsonPrimitive(value)
        val beside = mapOf("data" to JsonPrimitive("d"), "optimizer" to JsonPrimitive("sgd"), "eval_split" to JsonPrimitive(0.5), "eval_every" to JsonPrimitive(1))
        return try {
            Json.decodeFromJsonElement(TrainSettings.serializer(), JsonObject(beside + (name to number)))
            true
        } catch (error: UsageException) {
            assertTrue(name in error.message!!, error.message)
            false
        }
    }

    @Test
    fun `adapters' options are the shared ones`() {
        val folder = System.getProperty("mesp.contract")
        val table = Json.parseToJsonElement(File(folder, "adapters.json").readText()).jsonObject
        assertEquals(strings(table["read"]).toSet(), AdapterOptions.READ)
        assertEquals(strings(table["without_effect"]).toSet(), AdapterOptions.WITHOUT_EFFECT)
        assertEquals(strings(table["places"]).toSet(), AdapterOptions.PLACES)
        assertEquals(strings(table["leaves_weights"]).toSet(), AdapterOptions.LEAVES_WEIGHTS)
        assertEquals(table.getValue("not_in_names").jsonPrimitive.content, AdapterOptions.NOT_IN_NAMES)
    }

    @Test
    fun `samples are thinned by the shared rule`() {
        val rule = schema("memory_sample").getValue("\$defs").jsonObject.getValue("thinning").jsonObject
        fun number(name: String) = rule.getValue(name).jsonObject.getValue("const").jsonPrimitive.int
        assertEquals(number("whole_steps"), Thinning.WHOLE_STEPS)
        assertEquals(number("each_step"), Thinning.EACH_STEP)
    }

    @Test
    fun `phases and statuses have the shared names`() {
        val names = schema("names").getValue("\$defs").jsonObject
        val phases = names.getValue("phase_kind").jsonObject.getValue("oneOf").jsonArray.map { it.jsonObject.getValue("const").jsonPrimitive.content }
        assertEquals(listOf(LOAD, BETWEEN_STEPS), listOf(phases.first(), phases.last()))
        assertEquals(strings(names.getValue("finished_status").jsonObject["enum"]).toSet(), FINISHED)
    }
}
