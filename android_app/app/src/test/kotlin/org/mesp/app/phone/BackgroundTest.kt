package org.mesp.app.phone

import android.app.ActivityManager
import android.app.ApplicationExitInfo
import android.app.usage.UsageStatsManager
import android.os.Build
import android.provider.Settings
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Assume.assumeTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import org.robolectric.Shadows.shadowOf
import org.robolectric.shadows.ShadowActivityManager.ApplicationExitInfoBuilder

/** What the system did to the app, and may do. */
@RunWith(RobolectricTestRunner::class)
class BackgroundTest {
    private val application = RuntimeEnvironment.getApplication()
    private val manager = shadowOf(application.getSystemService(ActivityManager::class.java))

    private fun since(level: Int) = assumeTrue("Android has it since API $level", Build.VERSION.SDK_INT >= level)

    private fun end(run: String?, reason: Int, time: Long) =
        manager.addApplicationExitInfo(
            ApplicationExitInfoBuilder.newBuilder().setReason(reason).setTimestamp(time).setProcessStateSummary(run?.toByteArray()).build()
        )

    @Test
    fun `a run's end is its own process's, and the newest`() {
        since(30)
        end("first", ApplicationExitInfo.REASON_CRASH_NATIVE, 1)
        end("first", ApplicationExitInfo.REASON_LOW_MEMORY, 2)
        end("second", ApplicationExitInfo.REASON_SIGNALED, 3)
        end(null, ApplicationExitInfo.REASON_USER_REQUESTED, 4)
        assertEquals(Ending.MEMORY, ExitReasons.of(application, "first"))
        assertEquals(Ending.SIGNAL, ExitReasons.of(application, "second"))
        assertNull(ExitReasons.of(application, "third"))
    }

    @Test
    fun `every reason of the system's has words`() {
        since(30)
        val reasons = ApplicationExitInfo::class.java.fields.filter { it.name.startsWith("REASON_") }
        assertTrue(reasons.size >= 14)
        for (field in reasons) {
            end(field.name, field.getInt(null), 1)
            val ending = ExitReasons.of(application, field.name)!!
            val known = ending != Ending.UNKNOWN
            assertEquals(field.name, known, field.name !in setOf("REASON_UNKNOWN", "REASON_OTHER", "REASON_EXIT_SELF", "REASON_DEPENDENCY_DIED"))
        }
    }

    @Test
    fun `an app that is restricted is told from one that is not`() {
        since(30)
        assertEquals(Background(restricted = false, optimized = true), Background.of(application))
        manager.setBackgroundRestricted(true)
        assertTrue(Background.of(application).restricted)
        manager.setBackgroundRestricted(false)
        shadowOf(application.getSystemService(UsageStatsManager::class.java)).setCurrentAppStandbyBucket(UsageStatsManager.STANDBY_BUCKET_RESTRICTED)
        assertTrue(Background.of(application).restricted)
        shadowOf(application.getSystemService(UsageStatsManager::class.java)).setCurrentAppStandbyBucket(UsageStatsManager.STANDBY_BUCKET_RARE)
        assertFalse("rarely used is not restricted", Background.of(application).restricted)
    }

    @Test
    fun `an older system tells nothing`() {
        assumeTrue(Build.VERSION.SDK_INT < 28)
        ExitReasons.mark(application, "first")
        assertNull(ExitReasons.of(application, "first"))
        assertFalse(Background.of(application).restricted)
    }

    @Test
    fun `the maker's screen comes before the app's page, which is always there`() {
        val page = MakerSettings.intents(application, "Google").single()
        assertEquals(Settings.ACTION_APPLICATION_DETAILS_SETTINGS, page.action)
        assertEquals("package:org.mesp.app", page.dataString)
        val redmi = MakerSettings.intents(application, "Redmi")
        assertEquals("com.miui.securitycenter", redmi.first().component!!.packageName)
        assertEquals(page.action, redmi.last().action)
        for (maker in listOf("samsung", "HUAWEI", "OPPO", "realme", "vivo", "OnePlus", "asus", "HONOR")) {
            assertTrue(maker, MakerSettings.intents(application, maker).dropLast(1).all { it.component != null } && MakerSettings.intents(application, maker).size > 1)
        }
    }
}
