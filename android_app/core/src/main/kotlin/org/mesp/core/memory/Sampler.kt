package org.mesp.core.memory

import java.math.RoundingMode
import kotlin.math.abs
import kotlinx.serialization.SerialName
import kotlinx.serialization.Serializable
import org.mesp.core.MespException

/** The largest memory sample of a phase: a line of memory.jsonl. */
@Serializable
data class Sample(
    val seconds: Double,
    val phase: String,
    @SerialName("footprint_bytes") val footprintBytes: Long,
    @SerialName("rss_bytes") val rssBytes: Long,
)

/** The phase before the first of a schedule: the bundle is opened, memory allocated, programs warmed up. */
const val LOAD = "load"

/** The phase after a step: logs, checkpoints, the next examples. */
const val BETWEEN_STEPS = "between steps"

private const val SETTLE_MILLIS = 50L
private const val SETTLE_ROUNDS = 12
private const val SETTLED_BYTES = 512 * 1024

/** What a run's samples come to: "memory" in report.json. */
@Serializable
data class MemoryReport(
    @SerialName("baseline_footprint_bytes") val baselineFootprintBytes: Long,
    @SerialName("baseline_is_stable") val baselineIsStable: Boolean,
    @SerialName("peak_footprint_bytes") val peakFootprintBytes: Long,
    @SerialName("delta_footprint_bytes") val deltaFootprintBytes: Long,
    @SerialName("peak_phase") val peakPhase: String,
    @SerialName("vm_hwm_bytes") val vmHwmBytes: Long,
    @SerialName("vm_hwm_is_of_the_run") val vmHwmIsOfTheRun: Boolean,
    val samples: Long,
    @SerialName("longest_gap_seconds") val longestGapSeconds: Double,
    @SerialName("longest_gap_phase") val longestGapPhase: String,
    @SerialName("major_faults") val majorFaults: Long,
    @SerialName("dirty_file_and_swap_bytes") val dirtyFileAndSwapBytes: Long,
)

/**
 * Samples this process's memory while a run goes on, and keeps the largest sample of each phase.
 *
 * What is measured is defined in runtime/memory/sampler.py. The footprint is anonymous memory, also where it was swapped or compressed, and dirty
 * pages of mapped files. To read it exactly takes milliseconds, so that is done between steps. A sample in between is the anonymous memory of
 * that moment, plus what the last exact reading found besides.
 *
 * A thread samples every [INTERVAL_MILLIS]. [observe] adds a sample at the end of each program call. What the virtual machine keeps
 * for itself, its heap and its compiled code, is in the footprint too, before and after.
 */
class Sampler : AutoCloseable {
    private val statm = Statm(Statm.pageBytes())
    private val start = System.nanoTime()

    /** When the samples' seconds begin, by the device's clock. */
    val sinceEpochSeconds: Double = System.currentTimeMillis() / 1e3
    private val faults = majorFaults()
    private val hwmIsOfTheRun: Boolean
    private val baselineIsStable = settle()
    private var other: Long // of the footprint what is not anonymous memory, at the last exact reading
    private val otherAtRest: Long
    private var last = start
    private var longestGap = 0L
    private var longestGapPhase = LOAD
    private var samples = 0L
    private var phase = LOAD
    private var largestFootprint = NONE
    private var largestResident = 0L
    private var largestAt = 0L
    private var peakFootprint: Long
    private var peakPhase = phase
    private var closed = ArrayList<Sample>()
    private val thread = Thread(::watch, "memory-sampler")
    private val rest = Object()
    private var resting = false // guarded by rest

    /** The footprint before the run, in bytes. */
    val baseline: Long

    init {
        hwmIsOfTheRun = Proc.resetHighWaterMark()
        baseline = Proc.exactFootprint()
        peakFootprint = baseline
        statm.read()
        other = baseline - statm.anonymous
        otherAtRest = other
        thread.isDaemon = true
        thread.start()
    }

    private fun watch() {
        try {
            while (true) {
                Thread.sleep(INTERVAL_MILLIS)
                synchronized(rest) { while (resting) rest.wait() }
                take()
            }
        } catch (_: InterruptedException) {
            // closed
        }
    }

    /** Call it with a phase's name when one begins, and with null at the end of a program call. */
    @Synchronized
    fun observe(phase: String?) {
        take()
        if (phase != null) {
            closePhase()
            this.phase = phase
        }
    }

    /** Reads the exact footprint once, and returns the largest of the samples since the last call of [phases], in bytes. */
    @Synchronized
    fun endOfStep(): Long {
        closePhase()
        phase = BETWEEN_STEPS
        statm.read()
        other = Proc.exactFootprint() - statm.anonymous
        take()
        return closed.maxOfOrNull(Sample::footprintBytes) ?: 0
    }

    /** Ends sampling and the last phase, so that [phases] has every sample that [report] knows of. */
    fun finish() {
        thread.interrupt()
        thread.join()
        synchronized(this) { closePhase() }
    }

    /** The largest sample of each phase that ended since the last call. */
    @Synchronized
    fun phases(): List<Sample> = closed.also { closed = ArrayList() }

    /**
     * The summary.
     *
     * @param leastBytes what the run must have held: its adapter. A smaller peak cannot be true
     * @throws MespException the samples are too few or implausible, so that the peak would be a guess
     */
    @Synchronized
    fun report(leastBytes: Long): MemoryReport {
        val delta = peakFootprint - baseline
        if (samples < FEWEST) throw MespException("The memory report is refused: $samples samples are too few to know a peak.")
        if (delta < leastBytes) {
            throw MespException("The memory report is refused: a peak of $delta bytes over idle is below the adapter's own $leastBytes.")
        }
        return MemoryReport(
            baselineFootprintBytes = baseline,
            baselineIsStable = baselineIsStable,
            peakFootprintBytes = peakFootprint,
            deltaFootprintBytes = delta,
            peakPhase = peakPhase,
            vmHwmBytes = Proc.highWaterMark(),
            vmHwmIsOfTheRun = hwmIsOfTheRun,
            samples = samples,
            longestGapSeconds = rounded(longestGap / 1e9, 4),
            longestGapPhase = longestGapPhase,
            majorFaults = majorFaults() - faults,
            dirtyFileAndSwapBytes = other - otherAtRest,
        )
    }

    /**
     * Does what may wait for long, such as for a phone to cool down. Meanwhile nothing is sampled: nothing happens, and to wake up 125 times a
     * second would keep the phone from its sleep. A wait is no gap in the samples.
     */
    fun <T> restWhile(wait: () -> T): T {
        synchronized(rest) { resting = true }
        try {
            return wait()
        } finally {
            synchronized(this) { last = System.nanoTime() }
            synchronized(rest) {
                resting = false
                rest.notifyAll()
            }
        }
    }

    @Synchronized
    private fun take() {
        statm.read()
        val now = System.nanoTime()
        samples++
        if (now - last > longestGap) {
            longestGap = now - last
            longestGapPhase = phase
        }
        last = now
        val footprint = statm.anonymous + other
        if (footprint > largestFootprint) {
            largestFootprint = footprint
            largestResident = statm.resident
            largestAt = now
        }
        if (footprint > peakFootprint) {
            // Freed memory stays with the process, so the peak is a plateau. It belongs to the phase that first reached it.
            if (footprint > peakFootprint + PLATEAU_BYTES) peakPhase = phase
            peakFootprint = footprint
        }
    }

    private fun closePhase() {
        if (largestFootprint != NONE) closed.add(Sample((largestAt - start) / 1e9, phase, largestFootprint, largestResident))
        largestFootprint = NONE
    }

    override fun close() {
        thread.interrupt()
        thread.join()
        statm.close()
    }

    private companion object {
        const val INTERVAL_MILLIS = 8L
        const val PLATEAU_BYTES = 256 * 1024
        const val NONE = Long.MIN_VALUE
        const val FEWEST = 20
    }
}

/**
 * Has garbage collected and given back until two readings of the footprint in a row agree, and returns whether they did. What training would take
 * from the heap unseen is then not in the baseline. Runtime.gc() collects; System.gc() does nothing up to Android 14 unless finalization was
 * asked for. Mappings and buffers are given back some time after they are collected.
 */
private fun settle(): Boolean {
    var before = Long.MAX_VALUE
    repeat(SETTLE_ROUNDS) {
        Runtime.getRuntime().gc()
        System.runFinalization()
        Thread.sleep(SETTLE_MILLIS)
        val now = Proc.exactFootprint()
        if (abs(now - before) <= SETTLED_BYTES) return true
        before = now
    }
    return false
}

/** A number as the logs have it, with so many digits after the point. */
internal fun rounded(value: Double, digits: Int): Double = value.toBigDecimal().setScale(digits, RoundingMode.HALF_EVEN).toDouble()
