package org.mesp.core.engine

import java.io.Closeable
import java.io.File
import org.mesp.core.MespException
import org.mesp.core.UsageException
import org.pytorch.executorch.EValue
import org.pytorch.executorch.Module
import org.pytorch.executorch.rawBuffer

/** The bundle's programs, loaded. Each computes its results into memory that it has planned for itself and keeps. */
internal class Programs(bundle: Bundle, threads: Int) : Closeable {
    val specs = bundle.manifest.programs
    private val module: Module
    private val results = HashMap<String, Array<View>>()

    init {
        try {
            module = Module.load(File(bundle.path, PROGRAM).path, Module.LOAD_MODE_MMAP, threads)
        } catch (error: RuntimeException) {
            throw MespException("ExecuTorch cannot load ${bundle.path}/$PROGRAM: ${error.message}", error)
        }
        (specs.keys - module.getMethods().toSet()).firstOrNull()?.let {
            throw UsageException("${bundle.path}/$PROGRAM lacks the program $it. Export the bundle again.")
        }
    }

    /**
     * Runs the program with the largest workspace first, on zeros. XNNPACK's workspace is then as large as it will be: when it grows, the old
     * and the new one exist at once.
     */
    fun warmUp(scratch: File, largestFirst: List<String>, called: Set<String>) {
        val name = largestFirst.firstOrNull { it in called } ?: return
        val inputs = specs.getValue(name).inputs
        val memory = mappedZeros(scratch, inputs.maxOf { it.spec.bytes })
        val zero = inputs.map { View.of(typed(memory, it.dtype), 0, it.spec).value }.toTypedArray()
        run(name, zero)
    }

    /** Runs a program and returns its results. They are the same objects every time, in the same memory. */
    fun run(name: String, inputs: Array<EValue>): Array<View> {
        val values =
            try {
                module.execute(name, *inputs)
            } catch (error: RuntimeException) {
                throw MespException("ExecuTorch failed in the program $name: ${error.message}", error)
            }
        return results.getOrPut(name) { Array(values.size) { View(rawBuffer(values[it].toTensor()), values[it]) } }
    }

    override fun close() = module.close()
}
