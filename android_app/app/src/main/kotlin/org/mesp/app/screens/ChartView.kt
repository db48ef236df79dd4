package org.mesp.app.screens

import android.content.Context
import android.graphics.Canvas
import android.graphics.DashPathEffect
import android.graphics.Paint
import android.graphics.Path
import android.util.AttributeSet
import android.util.TypedValue
import android.view.View
import java.util.Locale
import kotlin.math.max
import kotlin.math.min
import org.mesp.app.R

/** A chart's paper: axes with round numbers, a grid, and the place of each value. What is drawn on it is its subclasses'. */
abstract class ChartView(context: Context, attributes: AttributeSet?) : View(context, attributes) {
    private val text =
        Paint(Paint.ANTI_ALIAS_FLAG).apply {
            textSize = sp(12f)
            color = context.getColor(R.color.ink_soft)
            fontFeatureSettings = "tnum"
        }
    private val grid =
        Paint().apply {
            color = context.getColor(R.color.hairline)
            strokeWidth = dp(1f)
        }
    private val locale: Locale get() = resources.configuration.locales[0]

    /** What [onDraw] draws: a range of values on each axis. */
    protected class Frame(val xLow: Double, val xHigh: Double, val yLow: Double, val yHigh: Double)

    /** What the axes are, above the chart, where no label is in its way. */
    protected abstract val axes: String

    private var left = 0f
    private var top = 0f
    private var right = 0f
    private var bottom = 0f
    private lateinit var frame: Frame

    /** Null draws nothing: there are no values yet. */
    protected abstract fun frame(): Frame?

    protected abstract fun drawValues(canvas: Canvas)

    override fun onDraw(canvas: Canvas) {
        frame = frame() ?: return
        val line = text.fontSpacing
        val yTicks = ticks(frame.yLow, frame.yHigh, ((height - 3 * line) / (line * 2)).toInt().coerceIn(2, 5))
        val yLabels = yTicks.map { "%.${decimals(yTicks)}f".format(locale, it) }
        left = paddingLeft + (yLabels.maxOfOrNull(text::measureText) ?: 0f) + dp(8f)
        right = width - paddingRight - dp(4f)
        top = paddingTop + line * 1.5f
        bottom = height - paddingBottom - line * 1.5f
        text.textAlign = Paint.Align.LEFT
        canvas.drawText(axes, paddingLeft.toFloat(), paddingTop - text.ascent(), fitting(axes))
        text.textAlign = Paint.Align.RIGHT
        for ((value, label) in yTicks.zip(yLabels)) {
            canvas.drawLine(left, y(value), right, y(value), grid)
            canvas.drawText(label, left - dp(8f), y(value) - (text.ascent() + text.descent()) / 2, text)
        }
        drawXLabels(canvas, line)
        canvas.save()
        canvas.clipRect(left - dp(4f), top - dp(4f), right + dp(4f), bottom + dp(4f)) // a point on an axis is whole
        drawValues(canvas)
        canvas.restore()
    }

    /** Large letters on a narrow screen would be cut off. */
    private fun fitting(words: String) =
        Paint(text).apply { textSize *= min(1f, (width - paddingLeft - paddingRight) / max(1f, measureText(words))) }

    private fun drawXLabels(canvas: Canvas, line: Float) {
        val base = bottom + dp(6f) - text.ascent()
        val xTicks = ticks(frame.xLow, frame.xHigh, ((right - left) / (line * 4)).toInt().coerceIn(2, 6))
        text.textAlign = Paint.Align.CENTER
        for (value in xTicks) {
            val label = "%.${decimals(xTicks)}f".format(locale, value)
            canvas.drawLine(x(value), bottom, x(value), bottom + dp(4f), grid)
            val half = text.measureText(label) / 2
            canvas.drawText(label, x(value).coerceIn(half, width - half), base, text)
        }
    }

    protected fun x(value: Double) = left + ((value - frame.xLow) / (frame.xHigh - frame.xLow) * (right - left)).toFloat()

    protected fun y(value: Double) = bottom - ((value - frame.yLow) / (frame.yHigh - frame.yLow) * (bottom - top)).toFloat()

    protected fun stroke(colour: Int, width: Float, dashed: Boolean = false) =
        Paint(Paint.ANTI_ALIAS_FLAG).apply {
            color = context.getColor(colour)
            style = Paint.Style.STROKE
            strokeWidth = dp(width)
            strokeJoin = Paint.Join.ROUND
            strokeCap = Paint.Cap.ROUND
            if (dashed) pathEffect = DashPathEffect(floatArrayOf(dp(4f), dp(4f)), 0f)
        }

    protected fun fill(colour: Int) = Paint(Paint.ANTI_ALIAS_FLAG).apply { color = context.getColor(colour) }

    /** Text in the chart, in a colour of the data. */
    protected fun label(colour: Int) = Paint(text).apply { color = context.getColor(colour) }

    protected fun path(xs: List<Double>, ys: List<Double>) =
        Path().apply { for (i in xs.indices) if (i == 0) moveTo(x(xs[i]), y(ys[i])) else lineTo(x(xs[i]), y(ys[i])) }

    protected fun dp(value: Float) = TypedValue.applyDimension(TypedValue.COMPLEX_UNIT_DIP, value, resources.displayMetrics)

    protected fun sp(value: Float) = TypedValue.applyDimension(TypedValue.COMPLEX_UNIT_SP, value, resources.displayMetrics)
}
