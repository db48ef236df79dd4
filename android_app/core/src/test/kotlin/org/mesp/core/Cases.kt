package org.mesp.core

import java.io.File
import kotlinx.serialization.KSerializer
import kotlinx.serialization.json.decodeFromJsonElement
import kotlinx.serialization.json.jsonObject
import kotlinx.serialization.json.jsonPrimitive
import org.mesp.core.report.forEachLine
import org.mesp.core.training.TrainSettings

/** All lines of a log. */
internal fun <T> readLines(file: File, serializer: KSerializer<T>): List<T> = buildList { forEachLine(file, serializer) { add(it) } }

/** The folders that tests/android_cases.py has written. */
internal object Cases {
    private val root: File by lazy {
        val path = System.getProperty("mesp.cases") ?: error("Run the tests by: make test-android. They compare with the host's runs, in -Dmesp.cases=FOLDER.")
        File(path).also { check(it.isDirectory) { "There are no cases at $it. Write them by: python -m tests.android_cases $it" } }
    }

    private fun names(folder: String) = File(root, folder).list()!!.filter { !it.startsWith(".") }.sorted()

    val runs: List<String> get() = names("runs")

    val bundles: List<File> get() = names("bundles").map { File(root, "bundles/$it") }

    /** The host's run folder. */
    fun host(run: String) = File(root, "runs/$run/host")

    private fun json(run: String) = JSON.parseToJsonElement(File(root, "runs/$run/settings.json").readText()).jsonObject

    fun bundle(run: String) = File(root, "bundles/${json(run).getValue("bundle").jsonPrimitive.content}")

    /** Leaves a copy of a run's folder where tests/test_runs.py looks, if it is to look. */
    fun keep(run: File, name: String) {
        val kept = File(System.getProperty("mesp.runs") ?: return, name)
        kept.deleteRecursively()
        run.copyRecursively(kept)
    }

    /** A run's settings, with its paths made absolute. */
    fun settings(run: String): TrainSettings {
        val settings = JSON.decodeFromJsonElement<TrainSettings>(json(run))
        return settings.copy(data = File(root, "runs/$run/${settings.data}").path)
    }
}
