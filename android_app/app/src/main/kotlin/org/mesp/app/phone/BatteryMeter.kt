package org.mesp.app.phone

import android.content.Context
import android.os.BatteryManager

/**
 * What a step takes of the battery, while no charger is plugged in: by the battery's own counter of charge where it has one, else by its level, once
 * that has fallen far enough to tell.
 *
 * @param microampHours the charge that is left, null where the battery does not count it
 */
class BatteryMeter(private val microampHours: () -> Long?) {
    private class Reading(val step: Int, val percent: Double, val microampHours: Long?)

    private var first: Reading? = null

    /** Of the whole battery; null as long as it is not known. */
    var percentAStep: Double? = null
        private set

    /** After each step. */
    fun stepped(step: Int, battery: Battery) {
        val percent = battery.percent
        if (battery.plugged || percent == null) {
            first = null
            return
        }
        val now = Reading(step, percent, microampHours())
        val from = first ?: now.also { first = it }
        if (step > from.step) taken(from, now)?.let { percentAStep = it / (step - from.step) }
    }

    private fun taken(from: Reading, now: Reading): Double? {
        if (from.microampHours != null && now.microampHours != null && now.percent > 0) {
            val whole = now.microampHours / now.percent * 100
            val taken = (from.microampHours - now.microampHours) / whole * 100
            if (taken >= LEAST_COUNTED) return taken
        }
        return (from.percent - now.percent).takeIf { it >= LEAST_PERCENT }
    }

    companion object {
        /** Some counters move in thousandths of the battery, and the level in whole percents. */
        private const val LEAST_COUNTED = 0.2
        private const val LEAST_PERCENT = 2.0

        /** Reads the battery's counter. One that there is not says Int.MIN_VALUE, before Android 9 also 0. */
        fun of(context: Context): BatteryMeter {
            val battery = context.getSystemService(BatteryManager::class.java)
            return BatteryMeter { battery.getIntProperty(BatteryManager.BATTERY_PROPERTY_CHARGE_COUNTER).takeIf { it > 0 }?.toLong() }
        }
    }
}
