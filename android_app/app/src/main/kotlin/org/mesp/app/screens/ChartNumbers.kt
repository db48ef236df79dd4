package org.mesp.app.screens

import kotlin.math.ceil
import kotlin.math.floor
import kotlin.math.log10
import kotlin.math.max
import kotlin.math.pow

/** Round numbers, 1, 2 or 5 times a power of ten apart, from [low] to [high]: about [most] of them. */
fun ticks(low: Double, high: Double, most: Int): List<Double> {
    val step = roundStep((high - low) / max(1, most))
    val first = ceil(low / step - 1e-9).toLong()
    val last = floor(high / step + 1e-9).toLong()
    return (first..last).map { it * step }
}

/** The digits after the point that tell these ticks apart. */
fun decimals(ticks: List<Double>): Int {
    if (ticks.size < 2) return if (ticks.all { it == floor(it) }) 0 else 2
    return max(0, ceil(-log10(ticks[1] - ticks[0]) - 1e-9).toInt())
}

private fun roundStep(least: Double): Double {
    val power = 10.0.pow(floor(log10(max(least, 1e-9))))
    return listOf(1.0, 2.0, 5.0, 10.0).first { it * power >= least * 0.999 } * power
}

/** The mean of each value and those before it, a tenth of all at most, as in the host's reports. */
fun smooth(values: List<Double>): List<Double> {
    val window = smoothingWindow(values.size)
    var total = 0.0
    return values.mapIndexed { i, value ->
        total += value - if (i >= window) values[i - window] else 0.0
        total / minOf(i + 1, window)
    }
}

fun smoothingWindow(count: Int) = max(1, count / 10)
