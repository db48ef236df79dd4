package org.mesp.core.engine

import java.io.Closeable
import java.io.File
import java.nio.Buffer
import java.nio.ByteBuffer
import java.nio.FloatBuffer
import java.nio.LongBuffer
import org.mesp.core.MespException

/**
 * Runs the schedules of a bundle: programs by ExecuTorch, weights read in place from the mapped file, one arena. Memory is allocated here, and
 * views are made during a schedule's first run. After that only the library allocates, for the objects that it returns.
 *
 * @param schedules names of those that will be run; memory is allocated for these alone
 * @param threads of XNNPACK's pool
 * @param observer called with its name when a phase begins, and with null after each program call
 * @param scratch folder for what the bundle keeps in files, and for the nameless files that memory is mapped from
 * @throws MespException the library cannot run the bundle's programs
 */
class Session(
    private val bundle: Bundle,
    schedules: List<String>,
    threads: Int,
    internal val observer: (String?) -> Unit,
    scratch: File,
) : Closeable {
    private val manifest = bundle.manifest
    private val used = schedules.associateWith(manifest.schedules::getValue)
    private val programs = Programs(bundle, threads)
    private val weights = HashMap<String, Buffer>()
    private val views = HashMap<List<Any?>, Array<View?>>()
    private val arena: ByteBuffer
    private val files: Map<String, ScratchTensor>

    /** The tensors that are kept from run to run, flat: the adapter, the optimizer's moments, the gradients. */
    val state: Map<String, FloatBuffer>
    private val interpreters: Map<String, ScheduleInterpreter>

    /** By schedule and input, how many elements are read. */
    private val inputElements: Map<String, Map<String, Int>>

    init {
        programs.warmUp(scratch, manifest.warmUp, used.values.flatMap { it.instructions.walk() }.filterIsInstance<Call>().map(Call::program).toSet())
        arena = outsideHeap(scratch, used.values.maxOf { it.arena.nbytes }.toLong())
        val names = used.values.flatMap { it.instructions.tensors() }.toSet()
        val ofKind = { kind: String -> manifest.tensors.filter { (name, tensor) -> tensor.kind == kind && name in names } }
        state = ofKind("state").mapValues { (_, tensor) -> outsideHeap(scratch, tensor.spec.bytes).asFloatBuffer() }
        files = ofKind("file").mapValues { (_, tensor) -> ScratchTensor(scratch, tensor.spec) }
        val inputs = manifest.tensors.filterValues { it.kind == "input" }.keys
        inputElements = used.mapValues { (_, schedule) -> inputElements(schedule.instructions, manifest.programs, inputs) }
        interpreters = used.mapValues { (name, schedule) -> ScheduleInterpreter(this, programs, name, schedule.instructions) }
    }

    /**
     * Writes the inputs, runs the schedule, and returns its outputs, each one number.
     *
     * @param inputs a LongArray, a FloatArray or a number for each that is no constant of the bundle; what the schedule does not read is passed over
     * @throws IllegalArgumentException an input is missing, or has not as many elements as the schedule reads
     */
    fun run(schedule: String, inputs: Map<String, Any>): Map<String, Double> {
        for ((name, elements) in inputElements.getValue(schedule)) {
            val value = requireNotNull(inputs[name] ?: manifest.constants[name]) { "$schedule reads $name, which is not given" }
            val given = requireNotNull(sizeOf(value)) { "an input is a LongArray, a FloatArray or a number, not a ${value.javaClass.simpleName}" }
            require(given == elements) { "$schedule reads $elements elements of $name, not $given" }
            write(memory(schedule, name), value)
        }
        interpreters.getValue(schedule).run()
        val outputs = used.getValue(schedule).arena.buffers.keys.filter { manifest.tensors[it]?.kind == "output" }
        return outputs.associateWith { (memory(schedule, it) as FloatBuffer).get(0).toDouble() }
    }

    /** How many elements an input has, null for what is none. */
    private fun sizeOf(value: Any): Int? =
        when (value) {
            is LongArray -> value.size
            is FloatArray -> value.size
            is Number -> 1
            else -> null
        }

    private fun write(memory: Buffer, value: Any) {
        memory.clear()
        when (value) {
            is LongArray -> (memory as LongBuffer).put(value)
            is FloatArray -> (memory as FloatBuffer).put(value)
            is Number -> if (memory is LongBuffer) memory.put(0, value.toLong()) else (memory as FloatBuffer).put(0, value.toFloat())
        }
    }

    /** The file that a tensor is kept in, or null if it is kept in memory. */
    internal fun file(name: String): ScratchTensor? = files[name]

    /** A tensor's memory, flat, as the buffer type of its dtype. A buffer of the arena has its place from the schedule. */
    internal fun memory(schedule: String, name: String): Buffer {
        state[name]?.let { return it }
        files[name]?.let { return it.memory }
        if (bundle.hasWeights(name)) return weights.getOrPut(name) { typed(bundle.mapWeights(name), bundle.weightDtype(name)) }
        val place = used.getValue(schedule).arena.buffers[name] ?: throw MespException("The bundle's schedule $schedule has no place for $name.")
        val bytes = arena.duplicate().window(place.offset, place.nbytes).slice().order(arena.order())
        val spec = manifest.tensors.getValue(name).spec
        return typed(bytes.duplicate().window(0, spec.bytes.toInt()).slice().order(arena.order()), spec.dtype)
    }

    internal fun dtype(name: String): String = manifest.tensors[name]?.dtype ?: bundle.weightDtype(name)

    /** The views of a reference, one for each of [places]. Forward, backward and all lengths share those of weights and states. */
    internal fun views(schedule: String, reference: Reference, spec: TensorSpec, places: List<IntRange>): Array<View?> {
        val shared = reference.tensor in state || bundle.hasWeights(reference.tensor)
        return views.getOrPut(listOf(if (shared) null else schedule, reference, spec, places)) { arrayOfNulls(places.fold(1) { n, it -> n * it.count() }) }
    }

    override fun close() {
        programs.close()
        files.values.forEach(ScratchTensor::close)
    }
}
