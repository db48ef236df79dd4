package org.mesp.app.screens

import android.content.Context
import android.graphics.Canvas
import android.util.AttributeSet
import kotlin.math.max
import kotlin.math.min
import org.mesp.app.R
import org.mesp.app.state.RunState
import org.mesp.core.report.Evaluation
import org.mesp.core.report.Step

/** The loss of each step, faintly, with its running mean, and the held-out loss as points. */
class LossChart(context: Context, attributes: AttributeSet?) : ChartView(context, attributes) {
    private val each = stroke(R.color.train, 1f).apply { alpha = 110 }
    private val mean = stroke(R.color.train, 2.5f)
    private val heldOutLine = stroke(R.color.held_out, 1.5f, dashed = true)
    private val heldOutPoint = fill(R.color.held_out)

    private var steps = emptyList<Step>()
    private var evaluations = emptyList<Evaluation>()
    private var total = 0

    override val axes get() = context.getString(R.string.axes_loss)

    fun show(run: RunState) {
        if (steps == run.steps && evaluations == run.evaluations && total == run.total) return
        // A loss that is not finite has no place on the axis; the run has failed then, and says so.
        steps = run.steps.filter { it.loss.isFinite() }
        evaluations = run.evaluations.filter { it.loss.isFinite() }
        total = run.total
        invalidate()
    }

    override fun frame(): Frame? {
        val losses = steps.map { it.loss } + evaluations.map { it.loss }
        if (losses.isEmpty()) return null
        val range = losses.max() - losses.min()
        val room = if (range > 0) range * 0.08 else 0.5
        // As wide as the run has come, so that its beginning is no speck in the corner; but not so narrow that the axis runs away.
        val right = max(steps.lastOrNull()?.step ?: 0, min(total, LEAST_STEPS))
        return Frame(0.0, max(1, right).toDouble(), losses.min() - room, losses.max() + room)
    }

    override fun drawValues(canvas: Canvas) {
        val xs = steps.map { it.step.toDouble() }
        val ys = steps.map { it.loss }
        canvas.drawPath(path(xs, ys), each)
        canvas.drawPath(path(xs, smooth(ys)), mean)
        val at = evaluations.map { it.step.toDouble() }
        val held = evaluations.map { it.loss }
        canvas.drawPath(path(at, held), heldOutLine)
        for (i in at.indices) canvas.drawCircle(x(at[i]), y(held[i]), dp(4f), heldOutPoint)
    }

    private companion object {
        const val LEAST_STEPS = 10
    }
}
