package org.mesp.app.screens

import android.content.Context
import android.util.AttributeSet
import android.util.TypedValue
import android.view.View
import android.view.ViewGroup
import kotlin.math.max

/** Children side by side as far as there is room, then on a new line: buttons stay whole with large fonts. */
class WrapLayout(context: Context, attributes: AttributeSet?) : ViewGroup(context, attributes) {
    private val gap = TypedValue.applyDimension(TypedValue.COMPLEX_UNIT_DIP, 8f, resources.displayMetrics).toInt()

    override fun onMeasure(widthSpec: Int, heightSpec: Int) {
        measureChildren(widthSpec, heightSpec)
        val width = MeasureSpec.getSize(widthSpec)
        setMeasuredDimension(width, resolveSize(arrange(width) { _, _, _ -> }, heightSpec))
    }

    override fun onLayout(changed: Boolean, left: Int, top: Int, right: Int, bottom: Int) {
        val mirrored = layoutDirection == LAYOUT_DIRECTION_RTL
        arrange(width) { child, x, y ->
            val from = if (mirrored) width - x - child.measuredWidth else x
            child.layout(from, y, from + child.measuredWidth, y + child.measuredHeight)
        }
    }

    /** Finds each child's place, and returns the height of all. */
    private fun arrange(width: Int, place: (View, x: Int, y: Int) -> Unit): Int {
        var x = 0
        var y = 0
        var line = 0
        for (child in (0..<childCount).map(::getChildAt).filter { it.visibility != GONE }) {
            if (x > 0 && x + child.measuredWidth > width) {
                x = 0
                y += line + gap
                line = 0
            }
            place(child, x, y)
            x += child.measuredWidth + gap
            line = max(line, child.measuredHeight)
        }
        return y + line
    }
}
