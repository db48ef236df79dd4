package org.mesp.app.phone

import android.content.Context
import android.content.Intent
import android.content.IntentFilter
import android.os.BatteryManager
import android.os.PowerManager

/**
 * The battery as a run has to mind it.
 *
 * @param percent how full it is, null where the phone does not tell
 * @param charging a charger is plugged in and gives more than the phone takes
 * @param saver battery saver is on
 */
data class Battery(val percent: Double? = null, val plugged: Boolean = false, val charging: Boolean = plugged, val saver: Boolean = false) {
    companion object {
        fun of(intent: Intent, power: PowerManager): Battery {
            val level = intent.getIntExtra(BatteryManager.EXTRA_LEVEL, -1)
            val scale = intent.getIntExtra(BatteryManager.EXTRA_SCALE, 100)
            val plugged = intent.getIntExtra(BatteryManager.EXTRA_PLUGGED, 0) != 0
            // A computer's socket may give less than training takes.
            val draining = intent.getIntExtra(BatteryManager.EXTRA_STATUS, 0) == BatteryManager.BATTERY_STATUS_DISCHARGING
            return Battery(if (level < 0 || scale <= 0) null else level * 100.0 / scale, plugged, plugged && !draining, power.isPowerSaveMode)
        }

        /** As it is now. */
        fun now(context: Context): Battery {
            val power = context.getSystemService(PowerManager::class.java)
            val sticky = context.applicationContext.registerReceiver(null, IntentFilter(Intent.ACTION_BATTERY_CHANGED))
            return if (sticky == null) Battery(saver = power.isPowerSaveMode) else of(sticky, power)
        }
    }
}

/** When the battery is too low to train on. Like heat it has two marks, so that a run does not start and stop about one. */
object BatteryRule {
    const val USUAL_PERCENT = 20

    /** What may be chosen. */
    val PERCENTS = 0..90
    private const val ABOVE_PERCENT = 2

    /**
     * @param least percent, 0 to never pause
     * @param before what was said last
     */
    fun isLow(battery: Battery, least: Int, before: Boolean): Boolean {
        val percent = battery.percent ?: return false
        return !battery.charging && percent < if (before && least > 0) least + ABOVE_PERCENT else least
    }
}
