package org.mesp.core.training

import java.io.File
import org.mesp.core.data.Dataset
import org.mesp.core.memory.Sample
import org.mesp.core.report.Evaluation
import org.mesp.core.report.Step

/** Hears of a run's progress, on the thread that trains; this one does nothing. */
interface Listener {
    /** The data is read; [first] steps were done by the run that is resumed, 0 for a new one, of [steps] in all. */
    fun begin(first: Int, steps: Int, dataset: Dataset) = Unit

    /** Something that is no reason not to train, and that the person should know before it begins. */
    fun warned(warning: String) = Unit

    /** Different numbers of threads were tried, and [chosen] was the fastest. */
    fun triedThreads(trials: List<Trial>, chosen: Int) = Unit

    fun stepped(step: Step) = Unit

    /** So many of the held-out sequences of an evaluation are done. */
    fun evaluating(done: Int, sequences: Int) = Unit

    fun evaluated(evaluation: Evaluation) = Unit

    /** The largest samples of the phases that ended, after each step. */
    fun sampled(samples: List<Sample>) = Unit

    fun checkpointed(folder: File) = Unit
}

/** How a run is told what to do from another thread. */
interface Control {
    /** Asked before every sequence, on the thread that trains; may wait, for a pause. Yes ends the run with a checkpoint and a report. */
    fun stop(): Boolean = false

    /** Asked while the data is read, which takes minutes for a long text, and does not wait: yes ends the run before it has begun. */
    fun stopReading(): Boolean = false

    /** Asked after every step: yes writes a checkpoint now. */
    fun checkpoint(): Boolean = false
}
