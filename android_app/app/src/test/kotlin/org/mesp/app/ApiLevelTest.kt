package org.mesp.app

import java.io.File
import kotlinx.serialization.KSerializer
import kotlinx.serialization.json.Json
import org.codehaus.mojo.animal_sniffer.SignatureChecker
import org.codehaus.mojo.animal_sniffer.logging.Logger
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test
import org.pytorch.executorch.Module

/** What a file of the app uses of a later Android than 8, from which level on, and the words of the look at the version that it is behind. */
private class Newer(val file: String, val level: Int, val guard: String, vararg val uses: String)

private val NEWER =
    listOf(
        Newer("phone/Background", 28, "if (Build.VERSION.SDK_INT < 28)", "isBackgroundRestricted", "getAppStandbyBucket"),
        Newer("phone/Device", 31, "if (Build.VERSION.SDK_INT >= 31)", "android.os.Build.SOC_M"),
        Newer("phone/ExitReasons", 30, "if (Build.VERSION.SDK_INT < 30)", "setProcessStateSummary", "getHistoricalProcessExitReasons", "ApplicationExitInfo"),
        Newer("phone/PhoneWatch", 29, "if (Build.VERSION.SDK_INT >= 29)", "ThermalStatusListener", "ThermalStatusChangedListener", "getCurrentThermalStatus"),
        Newer("service/ImportNotification", 31, "if (Build.VERSION.SDK_INT >= 31)", "setForegroundServiceBehavior"),
        Newer("service/RunNotification", 31, "if (Build.VERSION.SDK_INT >= 31)", "setForegroundServiceBehavior"),
    )

/**
 * The bytecode of core, of the app, and of the libraries in the APK, held against all that Android 8 (API 26) has: what is not there ends the app
 * on such a phone, when it is first used, and on no other.
 */
class ApiLevelTest {
    private val missing = sortedSetOf<String>() // "phone/Device: String android.os.Build.SOC_MODEL"
    private val classes = File(System.getProperty("mesp.classes")!!)

    private val finds =
        object : Logger {
            override fun error(message: String) = take(message)

            override fun error(message: String, error: Throwable) = take("$message $error")

            override fun warn(message: String) = take(message)

            override fun warn(message: String, error: Throwable) = take("$message $error")

            override fun info(message: String) = Unit

            override fun info(message: String, error: Throwable) = Unit

            override fun debug(message: String) = Unit

            override fun debug(message: String, error: Throwable) = Unit
        }

    private fun take(message: String) {
        val found = FOUND.find(message)
        if (found != null) missing += "${found.groupValues[1]}: ${found.groupValues[2]}" else missing += message
    }

    private fun check(vararg places: File) {
        File(System.getProperty("mesp.api26")!!).inputStream().use { signatures ->
            val checker = SignatureChecker(signatures, setOf("org.mesp.*", "org.pytorch.*", "com.facebook.*", "kotlin.*", "kotlinx.*"), finds)
            checker.setAnnotationTypes(emptyList())
            checker.setSourcePath(emptyList())
            places.forEach(checker::process)
        }
    }

    @Test
    fun `core asks for nothing that Android 8 lacks`() {
        check(classes.resolve("core/classes"))
        assertEquals(emptySet<String>(), missing)
    }

    @Test
    fun `what the app asks for beyond Android 8 is behind a look at the version`() {
        check(classes.resolve("app/classes"))
        val listed = NEWER.flatMap { newer -> newer.uses.map { newer.file to it } }
        val unlisted = missing.filterNot { find -> listed.any { (file, use) -> find.startsWith("$file: ") && use in find } }
        assertEquals("Put a look at Build.VERSION.SDK_INT before it, and list it in NEWER above", emptyList<String>(), unlisted)
        val gone = listed.filterNot { (file, use) -> missing.any { it.startsWith("$file: ") && use in it } }
        assertEquals("These are not used any more", emptyList<Pair<String, String>>(), gone)
        for (newer in NEWER) {
            val source = File(System.getProperty("mesp.sources")!!, "org/mesp/app/${newer.file}.kt").readText()
            assertTrue("${newer.file}.kt has no ${newer.guard}", newer.guard in source && "${newer.level}" in newer.guard)
        }
    }

    @Test
    fun `nor do the libraries in the APK ask for it without a look`() {
        val jars = listOf(Unit::class, Json::class, KSerializer::class, Module::class)
        check(*jars.map { File(it.java.protectionDomain.codeSource.location.toURI()) }.distinct().toTypedArray())
        assertEquals(setOf(CLASS_VALUE), missing)
    }

    private companion object {
        /** Which the library looks for before: Class.forName("java.lang.ClassValue"). */
        const val CLASS_VALUE = "kotlinx/serialization/internal/ClassValueReferences: void ClassValue.<init>()"

        /** Of a class file's path the source file, without what the compiler adds to its name for parts of it. */
        val FOUND = Regex("""(?:.*classes/)?(?:org/mesp/app/)?([\w/]+?)(?:Kt)?(?:\$[\w$]*)?\.class(?::\d+)?\)?: Undefined reference: (.+)""")
    }
}
