package org.mesp.app.phone

import android.app.ActivityManager
import android.content.Context
import android.os.Build
import kotlinx.serialization.json.JsonNull
import kotlinx.serialization.json.JsonObject
import kotlinx.serialization.json.buildJsonObject
import kotlinx.serialization.json.put

/** What report.json says of the phone; the first five by the names that the host's reports have. */
fun describeDevice(context: Context, library: LibraryNote?): JsonObject = buildJsonObject {
    put("machine", System.getProperty("os.arch"))
    put("processor", processor())
    put("cores", Runtime.getRuntime().availableProcessors())
    put("memory_bytes", memoryOf(context).totalMem)
    put("system", "Android ${Build.VERSION.RELEASE} (API ${Build.VERSION.SDK_INT})")
    put("manufacturer", Build.MANUFACTURER)
    put("model", Build.MODEL)
    put("android", Build.VERSION.RELEASE)
    put("sdk", Build.VERSION.SDK_INT)
    put("abi", Build.SUPPORTED_ABIS.firstOrNull())
    put("app", appVersion(context))
    put("library", library?.json ?: JsonNull)
}

fun memoryOf(context: Context) =
    ActivityManager.MemoryInfo().also { context.getSystemService(ActivityManager::class.java).getMemoryInfo(it) }

fun appVersion(context: Context): String = context.packageManager.getPackageInfo(context.packageName, 0).versionName.orEmpty()

private fun processor(): String =
    if (Build.VERSION.SDK_INT >= 31) "${Build.SOC_MANUFACTURER} ${Build.SOC_MODEL}" else Build.HARDWARE
