"""The app, as a process of its own: ROOT PIPE EXTRAS. Stands in for TrainService.kt and TrainingJob.kt, and goes on when adb is gone.

A trainer does the work. This process checks the request as the app does, follows the run's folder, writes the app's lines to the log, and notes
the trainer's end. Unlike a phone's, the app's process ends with its run.
"""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from standin import clock, exits, log
from standin.app import App
from standin.outcome import FINISHED, outcome
from standin.run_log import RunLog, checkpoints
from standin.run_request import Refused, RunRequest, is_name
from standin.state import State
from standin.words import text

REPORTED = ("status", "steps", "loss_first", "loss_last", "eval_loss_before", "eval_loss_after", "memory")
INTERVAL_SECONDS = 0.03


class AppProcess:
    """One start of the service, to its end."""

    def __init__(self, state: State, started: int):
        self._state = state
        self._started: int | None = started
        # The process has its pid before it is known whether it will train: it reads its command line first.
        self._said = open(state.root / "state" / "trainer.txt", "w+b")  # noqa: SIM115
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", 'IFS= read -r command && eval "exec $command" </dev/null'],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._said,
            env={**os.environ, **state.read()["trainer_environment"]},
        )
        self._pid = self._process.pid
        self._rss_kb = 0

    def serve(self, extras: dict[str, Any]) -> None:
        try:
            request = RunRequest.of(self._state, extras)
            with self._state.change() as now:
                if now["app"]:
                    raise Refused(text("run_under_way", now["app"]["run"]))
                minds = request.only_while_charging
                now["app"] = {
                    **{"pid": self._pid, "run": request.output, "only_while_charging": minds},
                    **{"pauses": [], "waiting": False, "stopping": False},
                }
        except Refused as refused:
            self._refuse(extras.get("output"), str(refused))
            self._process.kill()
            return
        log.event(self._state, self._pid, "start", request.output, **request.fields())
        try:
            self._train(request)
        finally:
            self._note_end()

    def _refuse(self, run: str | None, reason: str) -> None:
        log.error(self._state, self._pid, "refused", run, reason)
        if run is not None and is_name(run) and run != App(self._state).run and self._claim(run):
            self._report_failure(run, reason)

    # --- TrainingJob.kt -----------------------------------------------------------------------------------------------

    def _train(self, request: RunRequest) -> None:
        run = self._folder(request.output)
        ours = False
        try:
            ours = request.resume or self._claim(request.output)
            if not ours:
                raise Refused(text("output_exists", request.output))
            request.remember(self._state)
            bundle = request.bundle_folder(self._state)
            settings = self._state.internal / "settings.json"
            settings.write_text(json.dumps(request.train_settings(self._state)))
            followed = RunLog(run, request.resume)
            self._launch([str(bundle), str(run), str(settings), *(["--resume"] if request.resume else [])])
            self._follow(request, followed)
            self._end(request, run)
        except Refused as refused:
            self._failed(request, str(refused), ours)

    def _launch(self, arguments: list[str]) -> None:
        assert self._process.stdin
        command = shlex.join([*self._state.read()["trainer"], *arguments])
        self._process.stdin.write(command.encode() + b"\n")
        self._process.stdin.close()
        self.tell_started()

    def _follow(self, request: RunRequest, run: RunLog) -> None:
        over = False
        while not over:
            over = self._process.poll() is not None  # before the last look at the folder
            self._tell_new(request, run)
            if not over:
                self._gate(request, run)
                self._rss_kb = _rss_kb(self._pid) or self._rss_kb
                time.sleep(INTERVAL_SECONDS)

    def _tell_new(self, request: RunRequest, run: RunLog) -> None:
        for name, fields in run.events():
            log.event(self._state, self._pid, name, request.output, **fields)
            if name == "begin":  # no step is taken on a phone that is hot, or away from its charger
                now, app = self._state.read(), App(self._state)
                app.set_pause("hot", now["hot"])
                app.set_pause("not_charging", request.only_while_charging and not now["plugged"])

    def _gate(self, request: RunRequest, run: RunLog) -> None:
        """Gate.kt: stops the trainer, or lets it go on. Nothing of it is told while it waits."""
        app = self._state.read()["app"]
        waits = bool(app["pauses"]) and not app["stopping"]
        if waits == app["waiting"]:
            return
        if waits:
            self._process.send_signal(signal.SIGSTOP)
            self._tell_new(request, run)
        with self._state.change() as now:
            now["app"]["waiting"] = waits
        App(self._state).tell_pauses(now["app"])
        if not waits:
            self._process.send_signal(signal.SIGCONT)

    def _end(self, request: RunRequest, run: Path) -> None:
        if self._process.returncode == -signal.SIGKILL:
            return  # so the app itself was killed, and writes nothing
        file = run / "report.json"
        report = json.loads(file.read_text()) if file.exists() else {"status": None}
        if report["status"] not in ("done", "stopped_early", "interrupted"):
            self._said.seek(0)
            said = self._said.read().decode(errors="replace").strip().splitlines()
            # MainKt's last word; the lines before are the native library's.
            raise Refused(said[-1] if said else f"the trainer ended with {self._process.returncode}")
        if report["status"] != "interrupted":
            request.forget(self._state)
        fields = {name: report[name] for name in REPORTED if name in report}
        log.event(self._state, self._pid, "end", request.output, **fields)

    def _failed(self, request: RunRequest, reason: str, ours: bool) -> None:
        log.error(self._state, self._pid, "failed", request.output, reason)
        if ours:
            self._report_failure(request.output, reason)
        if not checkpoints(self._folder(request.output)):
            request.forget(self._state)

    def _claim(self, run: str) -> bool:
        """Whether there is no run of this name yet; what a start that was refused left does not count."""
        folder = self._folder(run)
        items = [item for item in folder.glob("*") if not item.name.startswith(".")]
        if [item.name for item in items] == ["report.json"]:
            if json.loads(items[0].read_text()).get("status") != "failed":
                return False
            items[0].unlink()
            return True
        return not items

    def _report_failure(self, run: str, reason: str) -> None:
        """The core's writeFailure: leaves a report alone that says so already."""
        folder = self._folder(run)
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "report.json"
        told = json.loads(file.read_text()) if file.exists() else {}
        if told.get("status") in FINISHED or told.get("reason") == reason:
            return
        start = json.loads((folder / "run.json").read_text()) if (folder / "run.json").exists() else {}
        steps, evaluations = (_lines(folder / name) for name in ("steps.jsonl", "eval.jsonl"))
        known = {key: start[key] for key in ("baseline_footprint_bytes",) if key in start}
        report = {
            **outcome("failed", steps, evaluations),
            "reason": reason,
            "memory": known,
            "environment": self._environment(),
            "bundle": start.get("bundle"),
        }
        file.write_text(json.dumps(report, indent=2))

    def _environment(self) -> dict[str, Any]:
        """Device.kt's, as far as the phone's properties tell it."""
        properties = self._state.properties()
        release, sdk = properties.get("ro.build.version.release"), properties.get("ro.build.version.sdk", "0")
        return {
            "machine": os.uname().machine,
            "processor": properties.get("ro.soc.model", properties.get("ro.hardware", "")),
            "cores": os.cpu_count(),
            "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
            "system": f"Android {release} (API {sdk})",
            "manufacturer": properties.get("ro.product.manufacturer"),
            "model": properties.get("ro.product.model"),
            "android": release,
            "sdk": int(sdk),
            "abi": properties.get("ro.product.cpu.abi"),
            "app": "stand-in",
            "library": None,
        }

    def _folder(self, run: str) -> Path:
        return self._state.external / "runs" / run

    # --- The process --------------------------------------------------------------------------------------------------

    def tell_started(self) -> None:
        """am returns."""
        if self._started is not None:
            os.close(self._started)
            self._started = None

    def _note_end(self) -> None:
        trained = self._process.poll() is not None
        if not trained:
            self._process.kill()  # it still waits for its command line
        status = self._process.wait()
        when = clock.now(self._state)
        with self._state.change() as now:
            if trained:
                exits.record(now, when, self._pid, self._rss_kb, status)
            now["app"] = None


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _rss_kb(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:")), 0)


def main() -> None:
    """The command line."""
    root, started, extras = sys.argv[1:]
    app = AppProcess(State(Path(root)), int(started))
    try:
        app.serve(json.loads(extras))
    finally:
        app.tell_started()


if __name__ == "__main__":
    main()
