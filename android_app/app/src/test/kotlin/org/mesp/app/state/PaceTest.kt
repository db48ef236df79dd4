package org.mesp.app.state

import org.junit.Assert.assertEquals
import org.junit.Assert.assertNull
import org.junit.Test
import org.mesp.core.report.Evaluation
import org.mesp.core.report.Step

/** How long a run will take, by the last one. */
class PaceTest {
    private fun step(number: Int, seconds: Double) = Step(number, 3.0, 1e-4, 1.0, 256, seconds, 1)

    private fun settings(vararg values: Pair<Field, String>) = Form(values = mapOf(*values)).settings()

    @Test
    fun `steps and evaluations are counted`() {
        val run = RunState("first", steps = (1..20).map { step(it, if (it <= 10) 9.0 else 4.0) }, evaluations = listOf(Evaluation(0, 3.0, 10.0)), percentAStep = 0.02)
        val pace = Pace.of(run, sequencesAStep = 2)!!
        assertEquals("of the last ten", Pace(2.0, 10.0, 0.01), pace)
        assertEquals(Estimate(120.0, 0.6), pace.estimate(settings(Field.STEPS to "60")))
        assertEquals(240.0, pace.estimate(settings(Field.STEPS to "60", Field.ACCUMULATION to "2"))!!.seconds, 1e-9)
        assertEquals("before and after", 140.0, pace.estimate(settings(Field.STEPS to "60", Field.SPLIT to "0.1"))!!.seconds, 1e-9)
        val tested = pace.estimate(settings(Field.STEPS to "60", Field.SPLIT to "0.1", Field.EVERY to "20"))!!
        assertEquals("and twice in between", 160.0, tested.seconds, 1e-9)
        assertEquals(0.8, tested.percent!!, 1e-9)
    }

    @Test
    fun `what is not known is not said`() {
        assertNull(Pace.of(RunState("first"), 1))
        assertNull("as long as the text", Pace(2.0).estimate(settings()))
        assertEquals(Estimate(120.0, null), Pace(2.0).estimate(settings(Field.STEPS to "60", Field.SPLIT to "0.1")))
    }
}
