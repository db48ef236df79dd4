package org.mesp.app.phone

import android.content.BroadcastReceiver
import android.content.Context
import android.content.Intent
import android.content.IntentFilter
import android.os.BatteryManager
import android.os.Build
import android.os.PowerManager

/**
 * Hears of the phone's warmth and battery, from [start] to [close], on the main thread.
 *
 * @param changed told both after each change of one
 */
class PhoneWatch(context: Context, private val changed: (Warmth, Battery) -> Unit) {
    // A service that is destroyed loses its receivers; the run may last a little longer.
    private val context = context.applicationContext
    private val power = context.getSystemService(PowerManager::class.java)
    private var celsius: Double? = null
    private var thermal: Int? = null
    private var charge = Battery()

    private val battery =
        object : BroadcastReceiver() {
            override fun onReceive(context: Context, intent: Intent) {
                if (intent.action == Intent.ACTION_BATTERY_CHANGED) read(intent)
                charge = charge.copy(saver = power.isPowerSaveMode)
                tell()
            }
        }

    // Made on first use: its interface is not there before API 29.
    private val thermalListener by lazy {
        PowerManager.OnThermalStatusChangedListener {
            thermal = known(it)
            tell()
        }
    }

    fun start() {
        // Sticky: the present state is returned at once.
        context.registerReceiver(battery, IntentFilter(Intent.ACTION_BATTERY_CHANGED))?.let(::read)
        context.registerReceiver(battery, IntentFilter(PowerManager.ACTION_POWER_SAVE_MODE_CHANGED))
        if (Build.VERSION.SDK_INT >= 29) listen()
        tell()
    }

    private fun listen() =
        try {
            power.addThermalStatusListener(thermalListener)
            thermal = known(power.currentThermalStatus)
        } catch (_: RuntimeException) {
            thermal = null // the phone has no thermal service: the battery's temperature has to do
        }

    fun close() {
        context.unregisterReceiver(battery)
        if (Build.VERSION.SDK_INT >= 29) power.removeThermalStatusListener(thermalListener)
    }

    private fun read(intent: Intent) {
        // In tenths of a degree. A phone that does not know says what no battery has: Int.MIN_VALUE, or -99.9.
        celsius = intent.getIntExtra(BatteryManager.EXTRA_TEMPERATURE, Int.MIN_VALUE).takeIf { it in -499..1999 }?.let { it / 10.0 }
        charge = Battery.of(intent, power)
    }

    /** The thermal status; null for one that Android does not have, such as -1. */
    private fun known(status: Int) = status.takeIf { it in PowerManager.THERMAL_STATUS_NONE..PowerManager.THERMAL_STATUS_SHUTDOWN }

    private fun tell() = changed(Warmth(celsius, thermal), charge)
}
