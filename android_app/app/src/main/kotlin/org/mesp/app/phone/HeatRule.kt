package org.mesp.app.phone

import android.os.PowerManager.THERMAL_STATUS_LIGHT
import android.os.PowerManager.THERMAL_STATUS_SEVERE

/** The battery's temperature, and PowerManager's thermal status where Android tells it (API 29). */
data class Warmth(val celsius: Double? = null, val thermal: Int? = null)

/**
 * When a phone is too hot to train on. It is hot from one mark on and stays so down to a lower one: with a single mark the run would
 * start and stop every few seconds. Android's own status counts where there is one (API 29), else the battery's temperature.
 */
object HeatRule {
    private const val HOT_CELSIUS = 45.0
    private const val COOL_CELSIUS = 40.0

    fun isHot(warmth: Warmth, before: Boolean): Boolean {
        val (celsius, thermal) = warmth
        return when {
            thermal != null -> if (before) thermal > THERMAL_STATUS_LIGHT else thermal >= THERMAL_STATUS_SEVERE
            celsius != null -> if (before) celsius > COOL_CELSIUS else celsius >= HOT_CELSIUS
            else -> before
        }
    }
}
