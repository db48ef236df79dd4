"""The interpreter of schedules, on the host: programs by ExecuTorch, weights read in place from the mapped file, one arena."""

import tempfile
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch

from . import executorch_runtime
from .bundle import PROGRAM, Bundle
from .random_signs import signs
from .schedule import (
    Call,
    Draw,
    For,
    Instruction,
    Instructions,
    Let,
    Part,
    Phase,
    Reference,
    Source,
    Store,
    TensorSpec,
    references,
    walk,
)
from .scratch import ScratchTensor

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "int8": torch.int8, "int64": torch.int64}

# What a session calls at the start of a phase (with its name), and at the end of every program call (with None).
Observer = Callable[[str | None], None]


class Session:
    """Runs the schedules of a bundle. All memory is allocated here, none while a schedule runs.

    Args:
        bundle: an opened bundle
        schedules: the schedules that will be run; memory is allocated for these alone
        threads: of XNNPACK's pool; None for one a core
        observer: called at phases and after program calls
        scratch: folder for what the bundle keeps in files; None for the system's

    Raises:
        UsageError: the installed ExecuTorch lacks something that the bundle's programs call.
    """

    def __init__(
        self,
        bundle: Bundle,
        schedules: Iterable[str],
        threads: int | None = None,
        observer: Observer = lambda _: None,
        scratch: Path | None = None,
    ):
        # Torch's own threads spin after each small copy and take the cores from XNNPACK's pool.
        torch.set_num_threads(1)
        executorch_runtime.use_threads(threads)
        executorch_runtime.check(bundle.manifest.needs)
        self._module = executorch_runtime.load(bundle.path / PROGRAM)
        self._programs = bundle.manifest.programs
        self._constants = bundle.manifest.constants
        self._observer = observer
        names = list(schedules)
        self._schedules = {name: bundle.manifest.schedules[name] for name in names}
        self._warm_up(bundle.manifest.warm_up)
        self._weights = WeightsView(bundle)
        arena = max(schedule.arena.nbytes for schedule in self._schedules.values())
        self._arena = torch.zeros(arena, dtype=torch.uint8)
        used = {r.tensor for s in self._schedules.values() for r in references(s.instructions)}
        self._tensors = bundle.manifest.tensors
        self.state = {
            name: torch.zeros(tensor.spec.shape, dtype=_DTYPES[tensor.spec.dtype])
            for name, tensor in self._tensors.items()
            if tensor.kind == "state" and name in used
        }
        folder = scratch or Path(tempfile.gettempdir())
        self._files = {
            name: ScratchTensor(folder, tensor.spec)
            for name, tensor in self._tensors.items()
            if tensor.kind == "file" and name in used
        }
        self._inputs = {name: self._input_elements(name) for name in names}
        self._interpreters = {name: _Interpreter(self, name) for name in names}

    def _warm_up(self, largest_first: Iterable[str]) -> None:
        """Runs the program with the largest workspace before there is one, on zeros: XNNPACK's is then as large as it will be. When it
        grows, the old and the new one exist at once."""
        called = {i.program for s in self._schedules.values() for i in walk(s.instructions) if isinstance(i, Call)}
        for name in [name for name in largest_first if name in called][:1]:
            specs = self._programs[name].inputs.values()
            # Memory that is only read is never given to the process: these zeros cost nothing.
            zeros = [torch.zeros(spec.shape, dtype=_DTYPES[spec.dtype]) for spec in specs]
            self._module.run_method(name, zeros, clone_outputs=False)

    def _input_elements(self, schedule: str) -> dict[str, int]:
        """How much a schedule reads of each input: of those that hold a sequence, a prefix of its own length."""
        elements: dict[str, int] = {}

        def read(instructions: Instructions, last: dict[str, int]) -> None:
            for instruction in instructions:
                match instruction:
                    case Call(program, inputs, _):
                        for source, spec in zip(inputs, self._programs[program].inputs.values(), strict=True):
                            if isinstance(source, Reference) and self._is_input(source.tensor):
                                end = source.at(last) + spec.elements
                                elements[source.tensor] = max(end, elements.get(source.tensor, 0))
                    case Draw(_, _, seed, _):
                        elements[seed] = 1
                    case For(variable, first, count, _, body):
                        read(body, {**last, variable: first + count - 1})
                    case Phase(_, body):
                        read(body, last)

        read(self._schedules[schedule].instructions, {})
        return elements

    def _is_input(self, name: str) -> bool:
        return name in self._tensors and self._tensors[name].kind == "input"

    def run(self, schedule: str, inputs: Mapping[str, torch.Tensor | float]) -> dict[str, torch.Tensor]:
        """Writes the inputs, runs the schedule, and returns its outputs: views of the arena, valid until the next run. What the
        manifest names as constants need not be given.

        Raises:
            KeyError: an input is missing.
            ValueError: an input has not as many elements as the schedule reads.
        """
        places, given = self._schedules[schedule].arena.buffers, {**self._constants, **inputs}
        for name, elements in self._inputs[schedule].items():
            value = torch.as_tensor(given[name]).reshape(-1)
            if value.numel() != elements:
                raise ValueError(f"{schedule} reads {elements} elements of {name}, not {value.numel()}")
            self.tensor(schedule, name).view(-1)[:elements].copy_(value)
        self._interpreters[schedule].run()
        return {name: self.tensor(schedule, name) for name in places if self._tensors[name].kind == "output"}

    def tensor(self, schedule: str, name: str) -> torch.Tensor:
        """A state, or a buffer of the arena at its place in a schedule."""
        if name in self.state:
            return self.state[name]
        placed, spec = self._schedules[schedule].arena.buffers[name], self._tensors[name].spec
        flat = self._arena[placed.offset : placed.offset + spec.nbytes].view(_DTYPES[spec.dtype])
        return flat.view(spec.shape)

    def base(self, schedule: str, name: str) -> torch.Tensor:
        """A tensor's memory, flat."""
        if name in self._weights:
            return self._weights[name]
        return self._files[name].base if name in self._files else self.tensor(schedule, name).view(-1)


class WeightsView:
    """The mapped weights file as flat tensors."""

    def __init__(self, bundle: Bundle):
        self._layout = bundle.weights
        self._map = bundle.map_weights()
        with warnings.catch_warnings():
            # Torch has no read-only tensors; nothing writes to these, and a write would be a fault, not a change of the file.
            warnings.simplefilter("ignore", UserWarning)
            self._bytes = torch.frombuffer(self._map, dtype=torch.uint8)

    def __contains__(self, name: str) -> bool:
        return name in self._layout

    def __getitem__(self, name: str) -> torch.Tensor:
        spec, offset = self._layout[name]
        return self._bytes[offset : offset + spec.nbytes].view(_DTYPES[spec.dtype])


class _View:
    """A tensor object that is moved over its base with the loop variables, instead of a new one for every tile."""

    def __init__(self, part: Reference | Part, spec: TensorSpec):
        self._part, self._shape = part, spec.shape
        self._stride = torch.empty(spec.shape, device="meta").stride()
        self._strides = tuple(part.strides.items())
        self.tensor = torch.empty(0, dtype=_DTYPES[spec.dtype])
        self.moves = bool(part.strides)

    def rest_on(self, base: torch.Tensor) -> "_View":
        """Sets what it is a part of."""
        self._storage, self._start = base.untyped_storage(), base.storage_offset() + self._part.offset
        if not self.moves:
            self.move({})
        return self

    def move(self, variables: Mapping[str, int]) -> torch.Tensor:
        """Hot: once a moving argument of every call."""
        start = self._start
        for name, stride in self._strides:
            start += stride * variables[name]
        self.tensor.set_(self._storage, start, self._shape, self._stride)
        return self.tensor


class _FileView(_View):
    """A part of what is kept in a file."""

    def __init__(self, part: Reference, spec: TensorSpec, file: ScratchTensor):
        super().__init__(part, spec)
        self._file, self.moves = file, True
        self.rest_on(file.base)

    def move(self, variables: Mapping[str, int]) -> torch.Tensor:
        self._file.flush()
        return super().move(variables)


class _Interpreter:
    """One schedule, with every reference resolved to a view."""

    def __init__(self, session: Session, name: str):
        self._session, self._name = session, name
        self._values: dict[str, torch.Tensor] = {}
        self._variables: dict[str, int] = {}
        self._specs: dict[str, TensorSpec] = {}
        self._steps = self._compile(session._schedules[name].instructions)

    def run(self) -> None:
        for step in self._steps:
            step()

    def _view(self, reference: Reference, spec: TensorSpec) -> _View:
        if file := self._session._files.get(reference.tensor):
            return _FileView(reference, spec, file)
        return _View(reference, spec).rest_on(self._session.base(self._name, reference.tensor))

    def _compile(self, instructions: Instructions) -> list[Callable[[], None]]:
        return [self._compile_one(instruction) for instruction in instructions]

    def _compile_one(self, instruction: Instruction) -> Callable[[], None]:
        match instruction:
            case Call():
                return self._compile_call(instruction)
            case Let(value, source, spec):
                self._specs[value] = spec
                return self._compile_let(value, source, spec)
            case Store(value, reference):
                if file := self._session._files.get(reference.tensor):
                    return lambda: file.write(reference.at(self._variables), self._values[value])
                view = self._view(reference, self._specs[value])
                return lambda: self._store(value, view)
            case Draw(reference, spec, seed, strides):
                return self._compile_draw(self._view(reference, spec), seed, strides)
            case For():
                return self._compile_for(instruction)
            case Phase(name, body):
                steps = self._compile(body)
                return lambda: self._phase(name, steps)

    def _compile_call(self, call: Call) -> Callable[[], None]:
        spec = self._session._programs[call.program]
        views: list[_View | None] = []
        for argument, argument_spec in zip(call.inputs, spec.inputs.values(), strict=True):
            views.append(self._view(argument, argument_spec) if isinstance(argument, Reference) else None)
        self._specs |= dict(zip(call.outputs, spec.outputs.values(), strict=True))
        arguments: list[torch.Tensor | None] = [view.tensor if view else None for view in views]
        moving = [view for view in views if view and view.moves]
        named = [(i, item) for i, item in enumerate(call.inputs) if isinstance(item, str)]
        run_method, observe, values = self._session._module.run_method, self._session._observer, self._values

        def step() -> None:
            for view in moving:
                view.move(self._variables)
            for i, name in named:
                arguments[i] = values[name]
            results = run_method(call.program, arguments, clone_outputs=False)
            for name, result in zip(call.outputs, results, strict=True):
                values[name] = result
            observe(None)

        return step

    def _compile_let(self, value: str, source: Source, spec: TensorSpec) -> Callable[[], None]:
        values = self._values
        if isinstance(source, str):
            return lambda: values.__setitem__(value, values[source])
        if isinstance(source, Part):
            part, whole = _View(source, spec), source.value
            return lambda: values.__setitem__(value, part.rest_on(values[whole]).move(self._variables))
        view = self._view(source, spec)
        return lambda: values.__setitem__(value, view.move(self._variables))

    def _compile_draw(self, view: _View, seed: str, strides: Mapping[str, int]) -> Callable[[], None]:
        seed_tensor, variables = self._session.base(self._name, seed), self._variables

        def step() -> None:
            first = sum(stride * variables[name] for name, stride in strides.items())
            place = view.move(variables)
            place.copy_(torch.from_numpy(signs(int(seed_tensor[0]), first, place.numel())).view_as(place))

        return step

    def _compile_for(self, loop: For) -> Callable[[], None]:
        steps, variables = self._compile(loop.body), self._variables

        def step() -> None:
            for index in loop.range():
                variables[loop.variable] = index
                for inner in steps:
                    inner()
            del variables[loop.variable]

        return step

    def _store(self, value: str, view: _View) -> None:
        view.move(self._variables).copy_(self._values[value])

    def _phase(self, name: str, steps: list[Callable[[], None]]) -> None:
        layer = self._variables.get("layer")
        self._session._observer(name if layer is None else f"{name} {layer}")
        for step in steps:
            step()
