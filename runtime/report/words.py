"""What a report says, in words: labels and values, for the command line's last lines and for the tables of report.html."""

import math
from collections.abc import Mapping
from typing import Any

MB = 1e6
Rows = list[tuple[str, str | None]]
PEAK, TOP = "Peak footprint over idle", "Resident, as top shows it"
WHY_TOP_IS_MORE = "libraries and the weights' pages too; most tools publish this one"
# Nothing was sampled for so long: said beside the peak, not in a table alone. Samples are 8 ms apart.
LONG_GAP_SECONDS = 1.0


def summary(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The figures of a report as a person reads them, without those that it does not have."""
    return [(label, value) for label, value in report_rows(report) if value is not None]


def report_rows(report: Mapping[str, Any]) -> Rows:
    """All of a report, always in this order; None for what it does not have."""
    rows = [*model_rows(report["bundle"]), *outcome_rows(report), *memory_rows(report["memory"])]
    return [*rows, *machine_rows(report["environment"])]


def settings_rows(settings: Mapping[str, Any]) -> Rows:
    """What was chosen for a run or an export, by the command line's words, without what is not set."""
    return [(name.replace("_", " "), _setting(value)) for name, value in settings.items() if value not in (None, [])]


def _setting(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{name.replace('_', ' ')} {_setting(item)}" for name, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(_setting, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def model_rows(bundle: Mapping[str, Any] | None) -> Rows:
    """The model and what was chosen for its export. Nothing of a run that was refused before it began."""
    if bundle is None:
        return []
    plan = bundle["plan"]
    return [
        ("Model", bundle["model"]),
        ("Sequence", f"{', '.join(map(str, plan['seq_len']))} tokens, batch 1"),
        ("Weights", weights_in_words(plan)),
        ("Adapter", f"rank {plan['rank']}, alpha {plan['alpha']:g}, {', '.join(plan['targets'])}"),
    ]


def weights_in_words(plan: Mapping[str, Any]) -> str:
    """The format of the frozen weights: int4 with its group size."""
    return f"int4 {plan['group_size']}" if plan["weights"] == "int4" else str(plan["weights"])


def outcome_rows(report: Mapping[str, Any]) -> Rows:
    """How the run ended, its losses and its speed."""
    best, step = report.get("best_eval_loss"), report.get("best_step")
    before, after = report["eval_loss_before"], report["eval_loss_after"]
    return [
        ("Status", report["status"].replace("_", " ")),
        ("Reason", report.get("reason")),
        ("Steps", steps_in_words(report)),
        ("Loss, first to last step", _from_to(report["loss_first"], report["loss_last"])),
        ("Held-out loss, before to after", _from_to(before, after)),
        ("Perplexity, before to after", _from_to(perplexity(before), perplexity(after), "{:.1f}")),
        ("Best held-out loss", _format("{:.4f}", best) and _format(f"{best:.4f} at step {{}}", step)),
        ("Time a step, median", _format("{:.3f} s", report["step_seconds_median"])),
        (
            "Page faults a step, median",
            _format("{:,.0f} that waited for the storage", report.get("step_major_faults_median") or None),
        ),
        ("Threads", _threads(report)),
        ("Before it began", " ".join(report.get("warnings", ())) or None),
        ("Tokens a second", _format("{:.1f}", report["tokens_per_second"])),
        (
            "Rows cut to the sequence",
            _format(f"{{}}, {report.get('cut_tokens')} tokens of them lost", report.get("cut_rows") or None),
        ),
        ("Rows with nothing to predict", _format("{}, left out", report.get("masked_rows") or None)),
    ]


def _threads(report: Mapping[str, Any]) -> str | None:
    """How many, and the seconds of a step of each number that was tried."""
    tried = ", ".join(f"{trial['threads']}: {trial['seconds']:.2f} s" for trial in report.get("threads_tried", ()))
    return _format(f"{{}}, the fastest of {tried}" if tried else "{}", report.get("threads"))


def steps_in_words(report: Mapping[str, Any]) -> str:
    """The steps that were taken, of those that were planned where they are not as many."""
    steps, planned = report["steps"], report.get("steps_planned")
    return f"{steps} of {planned}" if planned not in (None, steps) else str(steps)


def memory_rows(memory: Mapping[str, Any]) -> Rows:
    """The peak both ways, and how it was measured."""
    if "refused" in memory:
        return [(PEAK, memory["refused"])]
    if "delta_footprint_bytes" not in memory:
        return [(PEAK, "not known: the run was not finished")]
    dirty = memory["dirty_file_and_swap_bytes"]
    return [
        (PEAK, f"{megabytes(memory['delta_footprint_bytes'])}, in {memory['peak_phase']}"),
        (TOP, f"{megabytes(memory['vm_hwm_bytes'])}: {WHY_TOP_IS_MORE}"),
        (
            "Footprint, idle and peak",
            f"{megabytes(memory['baseline_footprint_bytes'])} and {megabytes(memory['peak_footprint_bytes'])}"
            + (
                "" if memory.get("baseline_is_stable", True) else "; idle was not at rest, so the difference is a guess"
            ),
        ),
        (
            "Of it dirty file pages and swap",
            f"{megabytes(dirty)}: was the bundle just written?" if dirty > MB else None,
        ),
        ("Samples", f"{memory['samples']:,}, {gap_in_words(memory)}"),
    ]


def gap_in_words(memory: Mapping[str, Any]) -> str:
    """The longest time without a sample, and where it was."""
    seconds, phase = memory["longest_gap_seconds"], memory.get("longest_gap_phase")
    long = f"{seconds:.1f} s" if seconds >= LONG_GAP_SECONDS else f"{1000 * seconds:.0f} ms"
    return f"longest gap {long}" + (f", in {phase}" if phase else "")


def machine_rows(environment: Mapping[str, Any]) -> Rows:
    """The machine, if it is known: run.json has the versions alone."""
    machine = None
    if "processor" in environment:
        size = environment["memory_bytes"] / 1e9
        machine = f"{environment['processor']}, {environment['cores']} cores, {size:.0f} GB"
    names = [name for name in ("executorch", "torch", "transformers", "python") if name in environment]
    return [("Machine", machine), ("Versions", ", ".join(f"{name} {environment[name]}" for name in names) or None)]


def megabytes(size: float) -> str:
    """Of a million bytes, or thousands for what is less than a tenth of that."""
    return f"{size / MB:,.1f} MB" if size == 0 or abs(size) >= MB / 10 else f"{size / 1e3:.1f} kB"


def perplexity(loss: float | None) -> float | None:
    """e to the loss: among how many tokens the model is as unsure as if they were equally likely."""
    return None if loss is None else math.exp(min(loss, 700.0))


def duration(seconds: float) -> str:
    """0.035 s, 4.3 s, 42.1 s, 1 min 20 s, 2 h 5 min."""
    if seconds < 59.5:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _format(template: str, value: float | None) -> str | None:
    return None if value is None else template.format(value)


def _from_to(first: float | None, last: float | None, template: str = "{:.4f}") -> str | None:
    """Both values, or the one that is known."""
    known = [template.format(value) for value in (first, last) if value is not None]
    return " to ".join(known) or None
