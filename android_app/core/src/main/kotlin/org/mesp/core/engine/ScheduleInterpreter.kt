package org.mesp.core.engine

import java.nio.FloatBuffer
import java.nio.LongBuffer
import org.mesp.core.MespException
import org.pytorch.executorch.EValue

/** A loop's variable. */
private class Variable(val loop: For) {
    var value = loop.first
}

/** Where a value is now. */
private class Slot(val name: String) {
    var view: View? = null

    fun get(): View = view ?: throw MespException("The bundle's schedule reads $name before there is one.")
}

private fun interface Action {
    fun run()
}

/** Interprets one schedule. It is compiled once: names are looked up, and each part that a reference can mean gets a view when it is first used. */
internal class ScheduleInterpreter(private val session: Session, private val programs: Programs, private val name: String, instructions: List<Instruction>) {
    private val slots = HashMap<String, Slot>()
    private val loops = LinkedHashMap<String, Variable>()
    private val steps = instructions.map(::compile)

    fun run() = steps.forEach(Action::run)

    private fun slot(name: String) = slots.getOrPut(name) { Slot(name) }

    private fun compile(instruction: Instruction): Action =
        when (instruction) {
            is Call -> call(instruction)
            is Let -> let(instruction)
            is Store -> store(instruction)
            is Draw -> draw(instruction)
            is For -> loop(instruction)
            is Phase -> phase(instruction)
        }

    private fun call(call: Call): Action {
        val spec = programs.specs[call.program] ?: throw MespException("The bundle's schedule calls ${call.program}, which it does not have.")
        val places = call.inputs.zip(spec.inputs).map { (source, argument) -> place(source, argument.spec) }.toTypedArray()
        val outputs = call.outputs.map(::slot).toTypedArray()
        val arguments = arrayOfNulls<EValue>(places.size)
        return Action {
            for (index in places.indices) arguments[index] = places[index].view().value
            @Suppress("UNCHECKED_CAST")
            val results = programs.run(call.program, arguments as Array<EValue>)
            for (index in outputs.indices) outputs[index].view = results[index]
            session.observer(null)
        }
    }

    private fun let(let: Let): Action {
        val place = place(let.source, let.spec)
        val slot = slot(let.value)
        return Action { slot.view = place.view() }
    }

    private fun store(store: Store): Action {
        val slot = slot(store.value)
        session.file(store.reference.tensor)?.let { file ->
            val offset = Offset(store.reference.offset, store.reference.strides, loops)
            return Action { file.write(offset.element(), slot.get().data) }
        }
        // The value's shape is known when the value is. It fills as many elements as it has.
        val offset = Offset(store.reference.offset, store.reference.strides, loops)
        val memory = session.memory(name, store.reference.tensor)
        val views = arrayOfNulls<View>(offset.count)
        val dtype = session.dtype(store.reference.tensor)
        return Action {
            val from = slot.get().data
            val index = offset.index()
            val to = views[index] ?: View.of(memory, offset.first(), TensorSpec(listOf(from.capacity()), dtype)).also { views[index] = it }
            copy(from, to.data)
        }
    }

    private fun draw(draw: Draw): Action {
        val place = place(draw.reference, draw.spec)
        val seed = session.memory(name, draw.seed) as LongBuffer
        val number = Offset(0, draw.strides, loops)
        return Action { fillWithSigns(place.view().data as FloatBuffer, seed.get(0), number.element()) }
    }

    private fun loop(loop: For): Action {
        val variable = Variable(loop)
        if (loops.put(loop.variable, variable) != null) throw MespException("The bundle's schedule uses ${loop.variable} in two loops at once.")
        val steps = loop.body.map(::compile).toTypedArray()
        loops.remove(loop.variable)
        return Action {
            for (round in 0 until loop.count) {
                variable.value = loop.first + if (loop.reverse) loop.count - 1 - round else round
                for (step in steps) step.run()
            }
        }
    }

    private fun phase(phase: Phase): Action {
        val layer = loops["layer"]
        val names = layer?.let { Array(it.loop.count) { index -> "${phase.name} ${it.loop.first + index}" } }
        val steps = phase.body.map(::compile).toTypedArray()
        return Action {
            session.observer(names?.get(layer.value - layer.loop.first) ?: phase.name)
            for (step in steps) step.run()
        }
    }

    // --- Places: where an argument's memory is, for the present values of the loops' variables -----------------------------

    private fun interface Place {
        fun view(): View
    }

    private fun place(source: Source, spec: TensorSpec): Place =
        when (source) {
            is Named -> slot(source.value).let { slot -> Place { slot.get() } }
            is Part -> part(source, spec)
            is Reference -> reference(source, spec)
        }

    private fun reference(reference: Reference, spec: TensorSpec): Place {
        val offset = Offset(reference.offset, reference.strides, loops)
        val memory = session.memory(name, reference.tensor)
        if (spec.dtype != session.dtype(reference.tensor)) throw MespException("The bundle's schedule reads ${reference.tensor} as ${spec.dtype}.")
        val views = session.views(name, reference, spec, offset.ranges)
        val file = session.file(reference.tensor)
        return Place {
            file?.flush()
            val index = offset.index()
            views[index] ?: View.of(memory, offset.first(), spec).also { views[index] = it }
        }
    }

    private fun part(part: Part, spec: TensorSpec): Place {
        val offset = Offset(part.offset, part.strides, loops)
        val slot = slot(part.value)
        val owner = Any()
        val make = { memory: java.nio.Buffer -> View.of(memory, offset.first(), spec) }
        return Place { slot.get().part(owner, offset.index(), offset.count, make) }
    }

    /** An offset in elements that moves with loops. It has a number among all that it can be. */
    private class Offset(private val offset: Long, strides: Map<String, Long>, loops: Map<String, Variable>) {
        private val variables = strides.keys.map(loops::getValue).toTypedArray()
        private val steps = strides.values.toLongArray()

        /** What the variables that it moves with can be. */
        val ranges = variables.map { it.loop.first until it.loop.first + it.loop.count }

        /** How many there are. */
        val count = ranges.fold(1) { product, range -> product * range.count() }

        fun element(): Long {
            var element = offset
            for (index in variables.indices) element += steps[index] * variables[index].value
            return element
        }

        fun first(): Int = Math.toIntExact(element())

        fun index(): Int {
            var index = 0
            for (variable in variables) index = index * variable.loop.count + variable.value - variable.loop.first
            return index
        }
    }
}
