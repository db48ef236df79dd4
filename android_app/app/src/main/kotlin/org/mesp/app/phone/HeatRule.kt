package org.mesp.app.phone

import android.os.PowerManager.THERMAL_STATUS_LIGHT
import android.os.PowerManager.THERMAL_STATUS_SEVERE

/** The battery's temperature, and PowerManager's thermal status where Android tells it (API 29). */
data class Warmth(val celsius: Double? = null, val thermal: Int? = null)

/**
 * When a phone is too hot to train on: when the battery is, or Android's thermal status says so. Neither overrules the other. The status is
 * NONE both on a cool phone and on one that has no thermal HAL, and a battery may stay cool while the processor is throttled.
 *
 * It is hot from one mark on and stays so down to a lower one: with a single mark the run would start and stop every few seconds.
 */
object HeatRule {
    private const val HOT_CELSIUS = 45.0
    private const val COOL_CELSIUS = 40.0

    fun isHot(warmth: Warmth, before: Boolean): Boolean {
        val (celsius, thermal) = warmth
        if (celsius == null && thermal == null) return before
        val battery = celsius != null && if (before) celsius > COOL_CELSIUS else celsius >= HOT_CELSIUS
        val status = thermal != null && if (before) thermal > THERMAL_STATUS_LIGHT else thermal >= THERMAL_STATUS_SEVERE
        return battery || status
    }
}
