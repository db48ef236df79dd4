package org.mesp.core.memory

import java.io.File
import java.nio.ByteBuffer
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.BeforeEach
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir
import org.mesp.core.MespException
import org.mesp.core.engine.mappedZeros
import org.mesp.core.engine.outsideHeap

class MemoryTest {
    @TempDir lateinit var temporary: File

    /** What the tests before have left is freed some time after it is collected: until then the footprint falls by itself. */
    @BeforeEach
    fun settle() {
        System.gc()
        var before: Long
        var now = Long.MAX_VALUE
        do {
            before = now
            Thread.sleep(200)
            now = Proc.exactFootprint()
        } while (now < before - (1 shl 20))
    }

    @Test
    fun `memory that is taken is in the peak, and in its phase`() {
        Sampler().use { sampler ->
            sampler.observe("quiet")
            repeat(10) { sampler.observe(null) }
            sampler.observe("loud")
            val taken = ByteBuffer.allocateDirect(BYTES)
            for (place in 0 until BYTES step 4096) taken.put(place, 1)
            repeat(10) { sampler.observe(null) }
            sampler.endOfStep()
            val report = sampler.report(leastBytes = 0)
            assertEquals("loud", report.peakPhase)
            assertTrue(report.deltaFootprintBytes in (BYTES * 0.9).toLong()..(BYTES * 1.5).toLong(), "${report.deltaFootprintBytes} bytes")
            assertEquals(listOf("load", "quiet", "loud"), sampler.phases().map(Sample::phase))
            assertEquals(1, taken.get(0))
        }
    }

    /** As what an adapter takes: it counts before it is written to, between two exact readings too, and takes nothing of the storage. */
    @Test
    fun `memory outside of the heap is in every sample from the start`() {
        Sampler().use { sampler ->
            sampler.observe("quiet")
            val exact = Proc.exactFootprint()
            val taken = outsideHeap(temporary, BYTES.toLong())
            sampler.observe("taken")
            val phases = sampler.phases().associate { it.phase to it.footprintBytes - sampler.baseline }
            assertTrue(phases.getValue("quiet") in (BYTES * 0.95).toLong()..(BYTES * 1.3).toLong(), "$phases")
            assertTrue(Proc.exactFootprint() - exact in (BYTES * 0.95).toLong()..(BYTES * 1.3).toLong())
            assertEquals(0, taken.get(BYTES - 1))
            assertEquals(emptyList<String>(), temporary.list()!!.toList())
        }
    }

    @Test
    fun `zeros that are only read are no memory of this process`() {
        val exact = Proc.exactFootprint()
        val zeros = mappedZeros(temporary, BYTES.toLong())
        assertEquals(0, (0 until BYTES step 4096).sumOf { zeros.get(it).toInt() })
        assertTrue(Proc.exactFootprint() - exact < BYTES / 4)
    }

    @Test
    fun `what tells no sizes is no measurement`() {
        val names = setOf("Private_Dirty", "Swap")
        val whole = sequenceOf("5-6 rw-p", "Rss:  9 kB", "Private_Dirty:  2 kB", "Swap:   1 kB", "SwapPss: 7 kB")
        assertEquals(3 * 1024L, sumOfFields(whole, names, "rollup"))
        for (line in listOf("Rss:  9 kB", "Private_Dirty: -1 kB", "Private_Dirty: many kB", "Swap:", "")) {
            val error = assertThrows(MespException::class.java) { sumOfFields(sequenceOf(line), names, "rollup") }
            assertTrue("rollup does not tell this process's memory" in error.message!!)
        }
    }

    @Test
    fun `the longest gap is named`() {
        Sampler().use { sampler ->
            repeat(30) { sampler.observe(null) }
            sampler.observe("busy")
            // The thread that samples waits for the lock.
            synchronized(sampler) { Thread.sleep(300) }
            sampler.observe("quiet")
            val report = sampler.report(leastBytes = 0)
            assertEquals("busy", report.longestGapPhase)
            assertTrue(report.longestGapSeconds > 0.25, "${report.longestGapSeconds} s")
        }
    }

    /** What was held before the run and is garbage: with it in the baseline, the peak over idle would be understated. */
    @Test
    fun `the baseline is without garbage, and at rest`() {
        var garbage: ByteBuffer? = outsideHeap(temporary, BYTES.toLong())
        val held = Proc.exactFootprint()
        garbage!!.put(0, 1)
        garbage = null
        Sampler().use { sampler ->
            assertTrue(sampler.baseline < held - BYTES / 2, "${sampler.baseline} of $held")
            repeat(30) { sampler.observe(null) }
            assertTrue(sampler.report(leastBytes = 0).baselineIsStable)
        }
    }

    @Test
    fun `a baseline that is not at rest is told`() {
        val taking =
            Thread {
                val taken = ArrayList<ByteBuffer>()
                while (!Thread.interrupted()) taken += outsideHeap(temporary, 1L shl 20)
            }
        taking.start()
        try {
            Sampler().use { sampler ->
                repeat(30) { sampler.observe(null) }
                assertFalse(sampler.report(leastBytes = 0).baselineIsStable)
            }
        } finally {
            taking.interrupt()
            taking.join()
        }
    }

    @Test
    fun `nothing is sampled while a run waits, and a wait is no gap`() {
        Sampler().use { sampler ->
            repeat(30) { sampler.observe(null) }
            val before = sampler.report(leastBytes = 0).samples
            assertEquals("cool", sampler.restWhile { "cool".also { Thread.sleep(600) } })
            val report = sampler.report(leastBytes = 0)
            assertTrue(report.samples - before <= 3, "${report.samples - before} samples")
            assertTrue(report.longestGapSeconds < 0.5, "${report.longestGapSeconds} s")
            Thread.sleep(100)
            assertTrue(sampler.report(leastBytes = 0).samples > report.samples + 3, "it goes on")
        }
    }

    @Test
    fun `a peak below what the run must have held is refused`() {
        Sampler().use { sampler ->
            repeat(30) { sampler.observe(null) }
            val error = assertThrows(MespException::class.java) { sampler.report(leastBytes = 1L shl 40) }
            assertTrue("refused" in error.message!!)
        }
    }

    @Test
    fun `too few samples are refused`() {
        Sampler().use { sampler ->
            val error = assertThrows(MespException::class.java) { sampler.report(leastBytes = 0) }
            assertTrue("too few" in error.message!!)
        }
    }

    private companion object {
        const val BYTES = 64 shl 20
    }
}
