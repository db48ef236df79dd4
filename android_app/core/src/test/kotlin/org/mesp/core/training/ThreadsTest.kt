package org.mesp.core.training

import java.io.File
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir

class ThreadsTest {
    @TempDir lateinit var cpus: File

    private fun defaultOf(vararg capacities: Int, cores: Int = capacities.size): Int {
        cpus.listFiles()!!.forEach(File::deleteRecursively)
        File(cpus, "cpufreq").mkdirs()
        for ((number, capacity) in capacities.withIndex()) {
            File(cpus, "cpu$number").mkdirs()
            File(cpus, "cpu$number/cpu_capacity").writeText("$capacity\n")
        }
        return defaultThreads(cpus, cores)
    }

    @Test
    fun `a thread for each core that is at least half as fast as the fastest`() {
        assertEquals(4, defaultOf(325, 325, 325, 325, 828, 828, 828, 1024)) // Snapdragon 888's shape
        assertEquals(2, defaultOf(381, 381, 381, 381, 381, 381, 1024, 1024)) // a middle-class phone
        assertEquals(8, defaultOf(792, 792, 792, 792, 792, 792, 1024, 1024)) // no little cores
        assertEquals(4, defaultOf(1024, 1024, 1024, 1024))
        assertEquals(2, defaultOf(1024, 1024, 1024, 1024, cores = 2), "no more than the process may use")
    }

    @Test
    fun `half of the cores where the kernel does not say`() {
        assertEquals(4, defaultOf(cores = 8))
        assertEquals(1, defaultOf(cores = 1))
        assertEquals(2, defaultThreads(File(cpus, "none"), cores = 5))
    }

    @Test
    fun `powers of two, the default, and one a core are tried`() {
        assertEquals(listOf(1, 2, 4, 6, 8), threadsToTry(cores = 8, default = 6))
        assertEquals(listOf(1, 2, 3), threadsToTry(cores = 3, default = 2))
        assertEquals(listOf(1), threadsToTry(cores = 1, default = 1))
    }
}
