package org.mesp.app.phone

import android.app.ActivityManager
import android.app.usage.UsageStatsManager
import android.content.ActivityNotFoundException
import android.content.ComponentName
import android.content.Context
import android.content.Intent
import android.net.Uri
import android.os.Build
import android.os.PowerManager
import android.provider.Settings

/**
 * How the system treats the app while its screen is off.
 *
 * @param restricted the person, or the phone by itself, has restricted it in the background: its service may be stopped
 * @param optimized its use of the battery is optimized, as is usual
 */
data class Background(val restricted: Boolean = false, val optimized: Boolean = false) {
    companion object {
        fun of(context: Context): Background {
            val power = context.getSystemService(PowerManager::class.java)
            return Background(isRestricted(context), !power.isIgnoringBatteryOptimizations(context.packageName))
        }

        private fun isRestricted(context: Context): Boolean {
            if (Build.VERSION.SDK_INT < 28) return false
            if (context.getSystemService(ActivityManager::class.java).isBackgroundRestricted) return true
            // A bucket of API 30, for apps that the system would rather not have run.
            val bucket = context.getSystemService(UsageStatsManager::class.java).appStandbyBucket
            return Build.VERSION.SDK_INT >= 30 && bucket >= UsageStatsManager.STANDBY_BUCKET_RESTRICTED
        }
    }
}

/**
 * Where a phone's maker lets apps run in the background, beside Android's own setting. These screens have no names of Android's; they are tried in
 * turn, and change with the makers' versions.
 */
object MakerSettings {
    private val SCREENS =
        mapOf(
            "xiaomi" to listOf("com.miui.securitycenter/com.miui.permcenter.autostart.AutoStartManagementActivity"),
            "huawei" to
                listOf(
                    "com.huawei.systemmanager/com.huawei.systemmanager.startupmgr.ui.StartupNormalAppListActivity",
                    "com.huawei.systemmanager/com.huawei.systemmanager.optimize.process.ProtectActivity",
                ),
            "honor" to listOf("com.hihonor.systemmanager/com.hihonor.systemmanager.startupmgr.ui.StartupNormalAppListActivity"),
            "oppo" to
                listOf(
                    "com.coloros.safecenter/com.coloros.safecenter.permission.startup.StartupAppListActivity",
                    "com.coloros.safecenter/com.coloros.safecenter.startupapp.StartupAppListActivity",
                    "com.oppo.safe/com.oppo.safe.permission.startup.StartupAppListActivity",
                ),
            "vivo" to
                listOf(
                    "com.vivo.permissionmanager/com.vivo.permissionmanager.activity.BgStartUpManagerActivity",
                    "com.iqoo.secure/com.iqoo.secure.ui.phoneoptimize.AddWhiteListActivity",
                ),
            "oneplus" to listOf("com.oneplus.security/com.oneplus.security.chainlaunch.view.ChainLaunchAppListActivity"),
            "samsung" to
                listOf(
                    "com.samsung.android.lool/com.samsung.android.sm.battery.ui.BatteryActivity",
                    "com.samsung.android.lool/com.samsung.android.sm.ui.battery.BatteryActivity",
                ),
            "asus" to listOf("com.asus.mobilemanager/com.asus.mobilemanager.autostart.AutoStartActivity"),
        )

    /** The names under which makers sell. */
    private val SAME = mapOf("redmi" to "xiaomi", "poco" to "xiaomi", "realme" to "oppo", "iqoo" to "vivo")

    /** The maker's screens if they are known, then the app's own page in Android's settings, which is always there. */
    fun intents(context: Context, maker: String = Build.MANUFACTURER): List<Intent> {
        val name = maker.lowercase()
        val known = SCREENS[SAME[name] ?: name].orEmpty().map { Intent().setComponent(ComponentName.unflattenFromString(it)) }
        return known + Intent(Settings.ACTION_APPLICATION_DETAILS_SETTINGS, Uri.fromParts("package", context.packageName, null))
    }

    /** Opens the first that is there. False if none is. */
    fun open(context: Context): Boolean =
        intents(context).any {
            try {
                context.startActivity(it)
                true
            } catch (_: ActivityNotFoundException) { // another version of the maker's system
                false
            } catch (_: SecurityException) { // a screen for the maker's own apps alone
                false
            }
        }
}
