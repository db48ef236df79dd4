"""Reports to look at, each one self-contained file: report.html of a run, and several runs beside each other."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..contract.run_files import PAGE
from ..errors import UsageError
from ..files import write_text
from .charts import COLOURS
from .figures import MB, Figure, comparison_figures, figures_of
from .phone_rows import phone_rows
from .run_folder import read_run

Rows = list[tuple[str, str | None]]
_PEAK = "Peak footprint over idle"


def write_report(run: Path) -> None:
    """Draws report.html from the files of a run folder, of a run that was not finished too.

    Raises:
        UsageError: not a run folder, or a file in it that is damaged.
    """
    folder = read_run(run)
    name = run.resolve().name
    tables = {
        "Result": {label: [value] for label, value in summary(folder.report)},
        "Phone, and its memory from outside of the app": {label: [value] for label, value in phone_rows(folder.device)},
        "Settings": {label: [value] for label, value in _settings(folder.settings)},
    }
    _write(run / PAGE, f"Fine-tuning run: {name}", [name], tables, figures_of(folder))


def write_comparison(runs: Sequence[Path], output: Path) -> None:
    """Draws several runs into one page: a column a run in the tables, a line a run in the figures.

    Raises:
        UsageError: no run, too many, one twice, or one that is not a run folder; an output that is not an .html file.
    """
    if output.suffix != ".html":
        raise UsageError(f"{output} must be a file that ends in .html: the comparison is a page.")
    if not 1 <= len(runs) <= len(COLOURS):
        raise UsageError(f"{len(runs)} runs cannot be compared: expected 1 to {len(COLOURS)}, one for each colour.")
    folders = {name: read_run(run) for name, run in zip(unique_names(runs), runs, strict=True)}
    tables = {
        "Result": _columns([_rows(folder.report) for folder in folders.values()]),
        "Phone, and its memory from outside of the app": _columns(
            [phone_rows(folder.device) for folder in folders.values()]
        ),
        "Settings": _columns([_settings(folder.settings) for folder in folders.values()]),
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    _write(output, f"{len(runs)} fine-tuning runs", list(folders), tables, comparison_figures(folders))


def unique_names(runs: Sequence[Path]) -> list[str]:
    """The runs' folder names, with as many of the folders around them as it takes to tell them apart.

    Raises:
        UsageError: a run that is named twice.
    """
    paths = [run.resolve() for run in runs]
    if twice := next((run for run, path in zip(runs, paths, strict=True) if paths.count(path) > 1), None):
        raise UsageError(f"{twice} is named twice. Name each run once.")
    names = [path.name for path in paths]
    depth = 1
    while len(set(names)) < len(names):
        depth += 1
        names = [
            "/".join(path.parts[-depth:]) if names.count(name) > 1 else name
            for path, name in zip(paths, names, strict=True)
        ]
    return names


def _columns(parts: Sequence[Sequence[tuple[str, str | None]]]) -> dict[str, list[str]]:
    """The rows of several runs side by side, without the rows that none has; a value that all share is there once."""
    labels = dict.fromkeys(label for part in sorted(parts, key=len, reverse=True) for label, _ in part)
    table = {label: [dict(part).get(label) for part in parts] for label in labels}
    return {
        label: ["–" if value is None else value for value in (values[:1] if len(set(values)) == 1 else values)]
        for label, values in table.items()
        if any(value is not None for value in values)
    }


def _write(
    path: Path, title: str, names: list[str], tables: Mapping[str, Mapping[str, list[str]]], figures: list[Figure]
) -> None:
    from jinja2 import Environment, PackageLoader, select_autoescape

    page = Environment(loader=PackageLoader("mesp.runtime.report", ""), autoescape=select_autoescape(default=True))
    runs = list(zip(names, COLOURS, strict=False))
    text = page.get_template("report.html.jinja").render(title=title, runs=runs, tables=tables, figures=figures)
    write_text(path, text)


# --- What a report says, in words -------------------------------------------------------------------------------------


def summary(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The figures of a report as a person reads them, without those that it does not have."""
    return [(label, value) for label, value in _rows(report) if value is not None]


def _rows(report: Mapping[str, Any]) -> Rows:
    """All of a report, always in this order; None for what it does not have."""
    rows = [*_model(report["bundle"]), *_outcome(report), *_memory(report["memory"])]
    return [*rows, *_machine(report["environment"])]


def _settings(settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(name.replace("_", " "), str(value)) for name, value in settings.items() if value is not None]


def _model(bundle: Mapping[str, Any]) -> Rows:
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


def _outcome(report: Mapping[str, Any]) -> Rows:
    steps, planned = report["steps"], report.get("steps_planned")
    best, step = report.get("best_eval_loss"), report.get("best_step")
    return [
        ("Status", report["status"].replace("_", " ")),
        ("Reason", report.get("reason")),
        ("Steps", f"{steps} of {planned}" if planned not in (None, steps) else str(steps)),
        ("Loss, first to last step", _from_to(report["loss_first"], report["loss_last"])),
        ("Held-out loss, before to after", _from_to(report["eval_loss_before"], report["eval_loss_after"])),
        ("Best held-out loss", _format("{:.4f}", best) and _format(f"{best:.4f} at step {{}}", step)),
        ("Time a step, median", _format("{:.3f} s", report["step_seconds_median"])),
        ("Tokens a second", _format("{:.1f}", report["tokens_per_second"])),
        (
            "Rows cut to the sequence",
            _format(f"{{}}, {report.get('cut_tokens')} tokens of them lost", report.get("cut_rows") or None),
        ),
        ("Rows with nothing to predict", _format("{}, left out", report.get("masked_rows") or None)),
    ]


def _memory(memory: Mapping[str, Any]) -> Rows:
    if "refused" in memory:
        return [(_PEAK, memory["refused"])]
    if "delta_footprint_bytes" not in memory:
        return [(_PEAK, "not known: the run was not finished")]
    dirty = memory["dirty_file_and_swap_bytes"]
    return [
        (_PEAK, f"{memory['delta_footprint_bytes'] / MB:.1f} MB, in {memory['peak_phase']}"),
        (
            "Footprint, idle and peak",
            f"{memory['baseline_footprint_bytes'] / MB:.1f} MB and {memory['peak_footprint_bytes'] / MB:.1f} MB",
        ),
        (
            "Of it dirty file pages and swap",
            f"{dirty / MB:.1f} MB: was the bundle just written?" if dirty > MB else None,
        ),
        ("VmHWM, clean pages too", f"{memory['vm_hwm_bytes'] / MB:.1f} MB"),
        ("Samples", f"{memory['samples']}, longest gap {memory['longest_gap_seconds'] * 1000:.0f} ms"),
    ]


def _machine(environment: Mapping[str, Any]) -> Rows:
    """The machine, if it is known: run.json has the versions alone."""
    machine = None
    if "processor" in environment:
        size = environment["memory_bytes"] / 1e9
        machine = f"{environment['processor']}, {environment['cores']} cores, {size:.0f} GB"
    names = [name for name in ("executorch", "torch", "transformers", "python") if name in environment]
    return [("Machine", machine), ("Versions", ", ".join(f"{name} {environment[name]}" for name in names) or None)]


def _format(template: str, value: float | None) -> str | None:
    return None if value is None else template.format(value)


def _from_to(first: float | None, last: float | None) -> str | None:
    """Both losses, or the one that is known."""
    known = [f"{value:.4f}" for value in (first, last) if value is not None]
    return " to ".join(known) or None
