package org.mesp.app.screens

import android.content.Context
import android.graphics.Canvas
import android.graphics.Paint
import android.graphics.Path
import android.util.AttributeSet
import kotlin.math.max
import org.mesp.app.R
import org.mesp.app.state.RunState
import org.mesp.app.state.Words
import org.mesp.core.memory.Sample

/** The memory of the last step by phase, and the peak of the run. */
class MemoryChart(context: Context, attributes: AttributeSet?) : ChartView(context, attributes) {
    /** Samples of one kind of phase in a row, until the next one begins, in seconds of the step. */
    private class Span(val kind: String, val samples: List<Sample>, val until: Double)

    private val peakLine = stroke(R.color.peak, 1.5f, dashed = true)
    private val peakText = label(R.color.peak).apply { textAlign = Paint.Align.RIGHT }
    private val words = Words(context)

    private var trace = emptyList<Sample>()
    private var stepSeconds = 0.0
    private var baseline: Long? = null
    private var peak = 0L

    override val axes get() = context.getString(if (baseline == null) R.string.axes_footprint else R.string.axes_over_idle)

    fun show(run: RunState) {
        if (trace === run.trace) return
        trace = run.trace
        stepSeconds = run.steps.lastOrNull()?.seconds ?: 0.0
        baseline = run.baselineBytes
        peak = run.peakBytes ?: 0
        invalidate()
    }

    private fun megabytes(sample: Sample) = (sample.footprintBytes - (baseline ?: 0)) / 1e6

    private fun seconds(sample: Sample) = sample.seconds - trace.first().seconds

    private val end get() = max(stepSeconds, seconds(trace.last()) * 1.001)

    override fun frame(): Frame? {
        if (trace.isEmpty()) return null
        val high = max(trace.maxOf(::megabytes), peak / 1e6) * 1.25
        return Frame(0.0, max(end, 1e-3), 0.0, max(high, 1.0))
    }

    override fun drawValues(canvas: Canvas) {
        val spans = spans()
        for (span in spans) draw(canvas, span)
        for (kind in spans.map { it.kind }.distinct()) name(canvas, kind, spans.filter { it.kind == kind })
        val y = y(peak / 1e6)
        canvas.drawLine(x(0.0), y, x(end), y, peakLine)
        canvas.drawText(context.getString(R.string.peak_is, words.megabytes(peak)), x(end), y - dp(6f), peakText)
    }

    private fun draw(canvas: Canvas, span: Span) {
        val colour = PhaseColours.of(span.kind)
        val line = Path()
        var y = y(megabytes(span.samples.first()))
        line.moveTo(x(seconds(span.samples.first())), y)
        for (sample in span.samples.drop(1)) {
            line.lineTo(x(seconds(sample)), y)
            y = y(megabytes(sample))
            line.lineTo(x(seconds(sample)), y)
        }
        line.lineTo(x(span.until), y)
        val area = Path(line)
        area.lineTo(x(span.until), y(0.0))
        area.lineTo(x(seconds(span.samples.first())), y(0.0))
        area.close()
        // Without smoothed edges: areas side by side would show seams.
        canvas.drawPath(area, fill(colour).apply { alpha = 48; isAntiAlias = false })
        canvas.drawPath(line, stroke(colour, 2f).apply { strokeCap = Paint.Cap.BUTT })
    }

    /**
     * The name of a kind of phase amid its spans, if they have room for it; the legend names all. Backward and update take turns, layer by
     * layer, and it is backward that has the room.
     */
    private fun name(canvas: Canvas, kind: String, spans: List<Span>) {
        val paint = label(R.color.ink).apply { textAlign = Paint.Align.CENTER }
        val room = spans.sumOf { it.until - seconds(it.samples.first()) }
        if (paint.measureText(kind) + dp(8f) > x(room) - x(0.0)) return
        val middle = (seconds(spans.first().samples.first()) + spans.last().until) / 2
        canvas.drawText(kind, x(middle), y(0.0) - dp(8f), paint)
    }

    private fun spans(): List<Span> {
        val rows = mutableListOf<MutableList<Sample>>()
        for (sample in trace) {
            val same = rows.lastOrNull()?.last()?.let { PhaseColours.kind(it.phase) == PhaseColours.kind(sample.phase) } ?: false
            if (same) rows.last() += sample else rows += mutableListOf(sample)
        }
        return rows.mapIndexed { i, row ->
            Span(PhaseColours.kind(row.first().phase), row, rows.getOrNull(i + 1)?.let { seconds(it.first()) } ?: end)
        }
    }
}
