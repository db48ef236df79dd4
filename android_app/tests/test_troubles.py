"""`mesp device` against a stand-in for a phone: what a phone, its cable and its Android do to a run. Run by `make test-all`."""

import hashlib
import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
from harness import BUNDLE, CASES, DATA, PHONES, SECONDS, Harness, device_json, logged, same, steps_in, train, wait
from standin import log
from standin.newer_adb import NewerAdb
from standin.phone import Phone

from mesp.bench.cells.definition import Cell
from mesp.bench.cells.reader import read_table
from mesp.device.app import SERVICE

pytestmark = pytest.mark.thorough


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose weights go in several slices."""
    bundle = tmp_path_factory.mktemp("large") / "large"
    shutil.copytree(BUNDLE, bundle)
    file, manifest = bundle / "adapter.safetensors", bundle / "manifest.json"
    file.write_bytes(os.urandom(40 << 20))
    contents = json.loads(manifest.read_text())
    contents["files"][file.name] = {"bytes": 40 << 20, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
    manifest.write_text(json.dumps(contents))
    return bundle


def test_push_goes_on_after_a_lost_connection(mesp: Harness, phone: Phone, large: Path) -> None:
    phone.daemon.disconnect_after_bytes(25 << 20)
    process = mesp.start("run", large, "--send-only")
    wait(lambda: phone.daemon.is_disconnected, "the lost connection")
    time.sleep(0.5)
    assert not (phone.files / "bundles" / "large" / "manifest.json").exists(), "what is not whole is no bundle"
    phone.daemon.reconnect()
    said = "".join(process.communicate(timeout=SECONDS))
    assert process.returncode == 0, said
    assert "Waiting for it" in said and "is back" in said
    assert same(phone.files / "bundles" / "large", large)


def test_a_push_that_was_ended_goes_on_where_it_was(mesp: Harness, phone: Phone, large: Path) -> None:
    phone.daemon.disconnect_after_bytes(25 << 20)
    said = mesp("run", large, "--send-only", "--reconnect", 0.5, status=1)
    assert f"adb connect {phone.serial}" in said
    phone.daemon.reconnect()
    mesp.adb.connect(phone)
    (part,) = (phone.files / "bundles" / "large").glob(".adapter.safetensors.*.part")
    before = part.stat().st_size
    assert before >= 16 << 20
    with part.open("ab") as file:
        file.write(b"half of a slice")
    inode = part.stat().st_ino
    mesp("run", large, "--send-only")
    assert same(phone.files / "bundles" / "large", large)
    assert (phone.files / "bundles" / "large" / "adapter.safetensors").stat().st_ino == inode


def test_a_full_storage(mesp: Harness, phone: Phone, large: Path) -> None:
    phone.fill_storage(30 << 20)
    said = mesp("run", large, "--send-only", status=2)
    assert "MB free" in said and "mesp device clean" in said
    phone.override(f"df -k {phone.place('/sdcard')}/", "df: no such option", 1)
    assert "storage is full" in mesp("run", large, "--send-only", status=1)
    assert not (phone.files / "bundles" / "large" / "manifest.json").exists()
    phone.free_storage()
    mesp("run", large, "--send-only")
    assert same(phone.files / "bundles" / "large", large)


def test_a_lost_connection_while_training(mesp: Harness, phone: Phone) -> None:
    process = mesp.start(*train(steps=100))
    wait(lambda: len(logged(mesp)) > 10, "some steps")
    phone.daemon.disconnect()
    time.sleep(1.5)
    phone.daemon.reconnect()
    said = "".join(process.communicate(timeout=SECONDS))
    assert process.returncode == 0, said
    assert "is back" in said and device_json(mesp)["disconnections"] >= 1
    assert logged(mesp) == list(range(1, 101)), "what happened meanwhile is in the log"


def test_a_phone_that_does_not_come_back(mesp: Harness, phone: Phone) -> None:
    process = mesp.start(*train("first", "--reconnect", 1, steps=200))
    wait(lambda: len(logged(mesp)) > 10, "some steps")
    phone.daemon.disconnect()
    said = "".join(process.communicate(timeout=SECONDS))
    assert process.returncode == 1 and "mesp device status RUN --watch" in said
    phone.daemon.reconnect()
    mesp.adb.connect(phone)
    mesp("status", "first", "--watch")
    assert logged(mesp)[-1] == 200 and device_json(mesp)["end"]["status"] == "done"


def test_low_memory_ends_the_app_and_the_run_goes_on(mesp: Harness, phone: Phone) -> None:
    process = mesp.start(*train("first", "--checkpoint-every", 10, steps=60))
    wait(lambda: len(logged(mesp)) > 25, "some steps")
    phone.app.kill("LOW_MEMORY")
    said = "".join(process.communicate(timeout=SECONDS))
    assert process.returncode == 1 and "memory was short (LOW_MEMORY)" in said and "--resume" in said
    steps = (mesp.folder / "first" / "steps.jsonl").read_text().splitlines()
    assert len(steps) > 20 and "unfinished" in (mesp.folder / "first" / "report.html").read_text()
    assert "going on after step" in mesp(*train("first", "--resume", steps=60))
    assert [json.loads(line)["step"] for line in (mesp.folder / "first" / "steps.jsonl").open()] == list(range(1, 61))
    assert device_json(mesp)["end"]["status"] == "done"


@pytest.mark.parametrize(("crash", "sign"), [("crash", "NullPointerException"), ("crash_native", "SIGSEGV")])
def test_a_crash_is_told_with_its_stack(mesp: Harness, phone: Phone, crash: str, sign: str) -> None:
    process = mesp.start(*train(steps=200))
    wait(lambda: len(logged(mesp)) > 10, "some steps")
    getattr(phone.app, crash)()
    said = "".join(process.communicate(timeout=SECONDS))
    assert process.returncode == 1 and "crashed" in said
    assert sign in (mesp.folder / "first" / "crash.txt").read_text()
    assert device_json(mesp)["end"]["status"] == "crashed"


def test_an_old_android_does_not_say_why(mesp: Harness, phone: Phone) -> None:
    phone.override(
        "dumpsys activity exit-info org.mesp.app", "Bad activity command, or no activities match: exit-info\n"
    )
    process = mesp.start(*train(steps=200))
    wait(lambda: len(logged(mesp)) > 10, "some steps")
    phone.app.kill()
    said = "".join(process.communicate(timeout=SECONDS))
    assert process.returncode == 1 and "Android does not say why" in said


def test_a_hot_phone_pauses_and_goes_on(mesp: Harness, phone: Phone) -> None:
    process = mesp.start(*train(steps=60))
    wait(lambda: len(logged(mesp)) > 10, "some steps")
    phone.heat()
    time.sleep(1)
    phone.cool()
    said = "".join(process.communicate(timeout=SECONDS))
    assert process.returncode == 0 and "it is too hot" in said and "goes on" in said


def test_a_run_waits_for_a_cool_phone(mesp: Harness, phone: Phone) -> None:
    phone.set_battery(temperature=412)
    process = mesp.start(*train("first", "--cool-to", 36))
    assert process.stdout
    assert any("41.2 °C: waiting for 36 °C" in line for line in process.stdout)
    assert not (phone.files / "runs").exists()
    phone.set_battery(temperature=355)
    process.communicate(timeout=SECONDS)
    assert process.returncode == 0


def test_the_phones_clock_is_a_day_ahead(mesp: Harness, phone: Phone) -> None:
    phone.set_clock_ahead(86_400)
    mesp(*train(steps=60))
    found = device_json(mesp)
    assert abs(found["clock_ahead_seconds"] - 86_400) < 5 and found["memory"]["agrees"]
    assert logged(mesp)[-1] == 60


def test_a_language_with_other_digits(mesp: Harness, phone: Phone) -> None:
    for name in ("meminfo", "exit-info"):
        phone.set_text(name, (PHONES / "arabic-android14" / f"{name}.txt").read_text())
    mesp(*train(steps=60))
    first = json.loads((mesp.folder / "first" / "outside.jsonl").read_text().splitlines()[0])
    assert first["total_pss_bytes"] > 0 and not device_json(mesp)["notes"]


def test_output_that_is_not_understood_is_kept(mesp: Harness, phone: Phone) -> None:
    phone.set_text("thermalservice", "Thermal Status: lukewarm\n")
    said = mesp(*train(steps=60))
    assert "was not understood" in said
    assert "lukewarm" in (mesp.folder / "first" / "not-understood.txt").read_text()
    assert device_json(mesp)["memory"]["agrees"]


def test_starts_that_the_phone_refuses(mesp: Harness, phone: Phone) -> None:
    mesp(*train(steps=2))
    shutil.rmtree(mesp.folder / "first")
    assert "has a run first already" in mesp(*train(steps=2), status=2)
    mesp(*train("first", "--fresh", steps=2))
    assert "exists already" in mesp(*train(steps=2), status=2)
    assert "has no device.json" in mesp(*train("other", "--resume"), status=2)
    mesp(*train("long", "--detach", steps=400))
    assert "under way" in mesp(*train("second", steps=2), status=2)
    assert not (mesp.folder / "second").exists()


def test_a_resumed_run_keeps_its_checkpoints_and_what_is_known_of_it(mesp: Harness, phone: Phone) -> None:
    process = mesp.start(*train("first", "--checkpoint-every", 10, steps=60))
    wait(lambda: len(logged(mesp)) > 25, "some steps")
    phone.app.kill("LOW_MEMORY")
    process.communicate(timeout=SECONDS)
    before = device_json(mesp)
    said = mesp("run", "-o", "first", "--resume", "--fresh")
    assert "going on after step 20" in said
    assert device_json(mesp)["settings"] == before["settings"] and device_json(mesp)["bundle"] == "llama"


def test_a_refusal_of_another_start_does_not_end_this_run(mesp: Harness, phone: Phone) -> None:
    process = mesp.start(*train(steps=80))
    wait(lambda: len(logged(mesp)) > 10, "some steps")
    mesp.adb.run("-s", phone.serial, "shell", "am start-foreground-service -n org.mesp.app/.TrainService "
                 "-a org.mesp.app.action.TRAIN --es output first --ez resume true")  # fmt: skip
    said = "".join(process.communicate(timeout=SECONDS))
    assert process.returncode == 0, said
    assert logged(mesp) == list(range(1, 81))


def test_another_apps_crash_is_not_this_runs(mesp: Harness, phone: Phone) -> None:
    process = mesp.start(*train(steps=60))
    wait(lambda: len(logged(mesp)) > 10, "some steps")
    log.write(phone.state, 812, "E", "AndroidRuntime", "FATAL EXCEPTION: main\nProcess: com.example, PID: 812", "crash")
    said = "".join(process.communicate(timeout=SECONDS))
    assert process.returncode == 0, said
    assert not (mesp.folder / "first" / "crash.txt").exists()


def test_a_log_that_cannot_be_followed(mesp: Harness, phone: Phone) -> None:
    (phone.state.root / "bin" / "logcat").write_text("#!/bin/sh\necho 'Logcat read failure: No such device'\n")
    said = mesp(*train(steps=200))
    assert "Logcat read failure" in said and "followed by its files" in said and "step 200/200" in said
    assert device_json(mesp)["end"]["status"] == "done"


def test_a_maker_that_silences_the_apps_log(mesp: Harness, phone: Phone) -> None:
    phone.silence_log()
    said = mesp(*train(steps=300))
    assert "does not tell what the app says in its log" in said and "Logger buffer sizes" in said
    assert "step 300/300" in said and (mesp.folder / "first" / "report.html").is_file()
    assert device_json(mesp)["end"]["status"] == "done" and device_json(mesp)["memory"]["agrees"]


def test_the_status_of_a_run_that_pauses(mesp: Harness, phone: Phone) -> None:
    mesp(*train("first", "--detach", steps=300))
    wait(lambda: steps_in(phone) > 3, "some steps")
    mesp("status", "--tell", "pause")
    assert "Run first: paused (asked to on the phone)" in mesp("status", "first")
    mesp("status", "--tell", "continue")
    assert "Run first: training" in mesp("status")


def test_a_log_that_was_switched_off(mesp: Harness, phone: Phone) -> None:
    phone.switch_log_off()
    mesp(*train(steps=20))
    assert logged(mesp) == list(range(1, 21))


def test_a_log_that_falls_silent_in_the_middle(mesp: Harness, phone: Phone) -> None:
    process = mesp.start(*train(steps=700))
    wait(lambda: len(logged(mesp)) > 10, "some steps")
    phone.silence_log()
    said = "".join(process.communicate(timeout=SECONDS * 2))
    assert process.returncode == 0, said
    assert "followed by its files" in said, said
    assert "step 700/700" in said, said


def test_a_silent_app_that_is_ended_or_refuses(mesp: Harness, phone: Phone) -> None:
    phone.silence_log()
    process = mesp.start(*train("first", "--checkpoint-every", 5, steps=400))
    wait(lambda: steps_in(phone) > 10, "some steps")
    phone.app.kill("LOW_MEMORY")
    said = "".join(process.communicate(timeout=SECONDS))
    assert process.returncode == 1 and "memory was short (LOW_MEMORY)" in said and "--resume" in said
    shutil.rmtree(mesp.folder / "first")
    phone.override(
        f"dumpsys activity services {SERVICE}", "ACTIVITY MANAGER SERVICES (dumpsys activity services)\n  (nothing)\n"
    )
    (phone.state.root / "bin" / "am").write_text("#!/bin/sh\n")
    assert "open the app" in mesp(*train("second", steps=2), status=2)
    assert not (mesp.folder / "second").exists()


@pytest.mark.parametrize("command", ["dumpsys", "pidof", "stat", "tail", "sha256sum", "find", "logcat", "cat"])
def test_a_shell_that_refuses_in_the_middle_of_a_run(mesp: Harness, phone: Phone, command: str) -> None:
    process = mesp.start(*train(steps=100))
    wait(lambda: steps_in(phone) > 10, "some steps")
    phone.refuse(command)
    said = "".join(process.communicate(timeout=SECONDS))
    assert "Traceback" not in said and process.returncode in (0, 1), said
    assert device_json(mesp)["end"]["status"] == "done"
    if process.returncode:
        assert "mesp device run:" in said and "mesp device status first --watch" in said


def test_a_port_that_changes_in_the_middle_of_a_run(mesp: Harness, phone: Phone, tmp_path: Path) -> None:
    newer = NewerAdb(tmp_path, mesp.adb.program)
    newer.announce({f"adb-{phone.own_serial}-bo0E0q": phone.serial}, connected=False)
    process = mesp.start(*train(steps=200), env={**mesp.adb.environment, "ADB": str(newer.program)})
    wait(lambda: len(logged(mesp)) > 10, "some steps")
    before = phone.serial
    phone.change_port()
    newer.announce({f"adb-{phone.own_serial}-bo0E0q": phone.serial}, connected=False)
    said = "".join(process.communicate(timeout=SECONDS * 2))
    assert process.returncode == 0, said
    assert f"{before} is back, as {phone.serial}" in said and logged(mesp) == list(range(1, 201))


def test_a_cable_that_is_pulled_from_a_phone_that_is_on_wifi_too(mesp: Harness, phone: Phone) -> None:
    wireless = phone.another_way()
    process = mesp.start(*train(steps=200))
    wait(lambda: len(logged(mesp)) > 10, "some steps")
    mesp.adb.run("connect", wireless)
    phone.daemon.disconnect()
    said = "".join(process.communicate(timeout=SECONDS * 2))
    assert process.returncode == 0 and f"is back, as {wireless}" in said, said
    mesp.adb.run("disconnect", wireless)


def test_ctrl_c_without_a_terminal_leaves_the_run(mesp: Harness, phone: Phone) -> None:
    process = mesp.start(*train(steps=100))
    wait(lambda: len(logged(mesp)) > 10, "some steps")
    process.send_signal(signal.SIGINT)
    said = "".join(process.communicate(timeout=SECONDS))
    assert process.returncode == 130 and "goes on on the phone" in said
    mesp("status", "first", "--watch")
    assert logged(mesp)[-1] == 100


def test_runs_side_by_side(mesp: Harness, phone: Phone) -> None:
    mesp(*train("first", steps=20))
    mesp(*train("second", steps=20))
    host = CASES / "runs" / "llama-sgd" / "host"
    mesp("report", "first", "second", host, "-o", "all.html")  # mesp device report of before
    page = (mesp.folder / "all.html").read_text()
    assert "Google Pixel 8" in page and "first" in page and "second" in page
    mesp("report", "first")


def test_inside_and_outside_see_the_same_memory(mesp: Harness, real: Phone) -> None:
    mesp("run", BUNDLE, "--data", DATA, "-o", "first", "--steps", 500, "--sample-every", 0.2, "--lr", "1e-4")
    memory = device_json(mesp)["memory"]
    assert memory["agrees"] and memory["samples"] >= 5 and memory["outside_source"] == "smaps_rollup"


def test_stopped_on_the_phone_and_gone_on_with(mesp: Harness, real: Phone) -> None:
    process = mesp.start("run", BUNDLE, "--data", DATA, "-o", "first", "--steps", 800, "--lr", "1e-4")
    wait(lambda: len(logged(mesp)) > 50, "some steps")
    mesp("status", "--tell", "stop")
    said = "".join(process.communicate(timeout=SECONDS))
    assert process.returncode == 130, said
    stopped = json.loads((mesp.folder / "first" / "report.json").read_text())["steps"]
    assert 50 < stopped < 800
    assert f"going on after step {stopped}" in mesp(*train("first", "--resume"))
    assert json.loads((mesp.folder / "first" / "report.json").read_text())["steps"] == 800


def test_a_table_is_measured_on_the_phone(mesp: Harness, real: Phone, tmp_path: Path) -> None:
    model = tmp_path / "tiny"
    model.mkdir()
    (model / "config.json").write_text(
        json.dumps(json.loads((BUNDLE / "manifest.json").read_text())["model"]["config"])
    )
    sweep = f'[models]\ntiny = "{model}"\n[[sweeps]]\nmodel = "tiny"\ntokens = 12\nrank = 4\n'
    table = tmp_path / "table.toml"
    table.write_text(f'title = "A table"\n{sweep}methods = ["mesp", "eager"]\nsteps = 40\n')
    keep_bundle(read_table(table).cells[0], mesp.folder / "out")
    said = mesp("bench", table, "-o", "out", "--keep-bundles", status=1)
    assert "eager is a baseline of this machine" in said and "MB over idle" in said
    results = json.loads((mesp.folder / "out" / "results.json").read_text())
    cell = results["cells"]["tiny-12-r4-mesp"]
    assert cell["status"] == "done" and cell["phone"]["java"] and len(cell["repeats"]) == 1
    assert results["command"].startswith("mesp device bench")
    assert "Trained on a phone" in (mesp.folder / "out" / "results.md").read_text()
    left = [path for name in ("bundles", "runs") for path in (real.files / name).iterdir()]
    assert not left, "what was measured is removed from the phone"


def keep_bundle(cell: Cell, folder: Path) -> None:
    """Leaves a bundle of this size where a bench with --keep-bundles would have left it: an export takes half a minute."""
    shutil.copytree(BUNDLE, folder / "bundle" / cell.name)
    asked = {"settings": cell.export_settings(), "configuration": cell.definition()["configuration_sha256"]}
    note = folder / "bundle" / f"{cell.name}.json"
    note.write_text(json.dumps({"asked": asked, "export": {"seconds": 1, "peak_rss_bytes": 1}}))
