"""`mesp device` against a stand-in for a phone, by the real adb client: a command at a time, and what goes wrong with each."""

import hashlib
import json
import os
import pty
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from phone_contract import check_fetched, check_phone
from standin import log
from standin.adb_server import AdbServer
from standin.phone import Phone
from standin.trainers import BUILD, core, fake

from mesp.bench.cells.definition import Cell
from mesp.bench.cells.reader import read_table
from mesp.device.outside import _kernel as outside_kernel

PHONES = Path(__file__).with_name("phones")
CASES = BUILD / "cases"
BUNDLE, DATA = CASES / "bundles" / "llama", CASES / "runs" / "llama-sgd" / "data.jsonl"
MESP = (sys.executable, "-c", "import sys; from mesp.command_line.parser import main; sys.exit(main())")
SECONDS = 60


class Harness:
    """`mesp` as a person runs it, in a folder of its own."""

    def __init__(self, adb: AdbServer, folder: Path):
        self.adb, self.folder = adb, folder

    def start(self, *words: object, **options: Any) -> "subprocess.Popen[str]":
        pipe = subprocess.PIPE
        options = {
            "stdin": subprocess.DEVNULL,
            "stdout": pipe,
            "stderr": pipe,
            "text": True,
            "env": self.adb.environment,
            **options,
        }
        return subprocess.Popen([*MESP, "device", *map(str, words)], cwd=self.folder, **options)

    def __call__(self, *words: object, status: int = 0, **options: Any) -> str:
        """What it prints, on both of its outputs; its exit status must be the one that is expected."""
        process = self.start(*words, **options)
        said = "".join(process.communicate(timeout=SECONDS))
        assert process.returncode == status, said
        assert "Traceback" not in said
        return said


@pytest.fixture(scope="module")
def adb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdbServer]:
    with AdbServer(tmp_path_factory.mktemp("home")) as server:
        yield server


@pytest.fixture
def phone(adb: AdbServer, tmp_path: Path) -> Iterator[Phone]:
    with Phone(tmp_path / "phone", trainer=fake(seconds=0.05, megabytes=20)) as made:
        assert adb.connect(made) == f"connected to {made.serial}"
        made.install()
        yield made
        adb.run("disconnect", made.serial)
    check_phone(made)
    check_fetched(tmp_path / "here")


@pytest.fixture
def mesp(adb: AdbServer, tmp_path: Path) -> Harness:
    folder = tmp_path / "here"
    folder.mkdir()
    return Harness(adb, folder)


def wait(until: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not until():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


def train(output: str = "first", *options: object, steps: int = 40) -> tuple[object, ...]:
    return ("run", BUNDLE, "--data", DATA, "-o", output, "--steps", steps, "--sample-every", 0.2, *options)


def steps_of(log: Path) -> list[int]:
    events = [json.loads(line.split(" : ", 1)[1].strip()) for line in log.read_text().splitlines() if '"step"' in line]
    return [event["step"] for event in events if event["event"] == "step"]


def logged(mesp: Harness, run: str = "first") -> list[int]:
    file = mesp.folder / run / "logcat.txt"
    return steps_of(file) if file.exists() else []


def device_json(mesp: Harness, run: str = "first") -> dict[str, Any]:
    about: dict[str, Any] = json.loads((mesp.folder / run / "device.json").read_text())
    return about


# --- What is connected ------------------------------------------------------------------------------------------------


def test_list_tells_what_a_phone_has(mesp: Harness, phone: Phone) -> None:
    said = mesp("list")
    for word in (phone.serial, "Google Pixel 8", "14 (API 34)", "arm64-v8a", "GB free", "87%, charging", "28.1 °C"):
        assert word in said
    (found,) = json.loads(mesp("list", "--json"))
    assert found["sdk"] == 34 and found["abis"] == ["arm64-v8a", "x86_64"] and found["battery_celsius"] == 28.1


@pytest.mark.parametrize(
    "name", sorted(folder.name for folder in PHONES.iterdir() if (folder / "getprop.txt").exists())
)
def test_list_reads_phones_of_several_vendors(mesp: Harness, adb: AdbServer, tmp_path: Path, name: str) -> None:
    with Phone(tmp_path / "phone", profile=PHONES / name) as phone:
        adb.connect(phone)
        (found,) = json.loads(mesp("list", "--json"))
        adb.run("disconnect", phone.serial)
    assert found["sdk"] >= 26 and found["memory_bytes"] and 0 < found["battery_percent"] <= 100
    assert not found["not_understood"]


def test_no_device(mesp: Harness) -> None:
    assert "Enable USB debugging" in mesp("list", status=1)
    assert "Enable USB debugging" in mesp(*train(), status=2)
    assert not (mesp.folder / "first").exists()


def test_two_devices_need_a_choice(mesp: Harness, phone: Phone, adb: AdbServer, tmp_path: Path) -> None:
    with Phone(tmp_path / "other") as other:
        adb.connect(other)
        said = mesp("logs", status=2)
        assert "2 devices are connected" in said and f"--serial {phone.serial}" in said
        assert "none" in mesp("logs", "--serial", other.serial)
        chosen = {**adb.environment, "ANDROID_SERIAL": phone.serial}
        assert "none" in mesp("logs", env=chosen)
        assert "There is no device nothere" in mesp("logs", "-s", "nothere", status=2)
        adb.run("disconnect", other.serial)


@pytest.mark.parametrize(
    ("state", "advice"), [("unauthorized", "accept this computer's key"), ("offline", "reconnect the cable")]
)
def test_a_phone_that_is_not_ready(mesp: Harness, phone: Phone, adb: AdbServer, state: str, advice: str) -> None:
    adb.run("disconnect", phone.serial)
    getattr(phone.daemon, state)()
    adb.connect(phone)
    wait(lambda: adb.devices().get(phone.serial) == state, state)
    assert advice in mesp("list")
    assert advice in mesp(*train(), status=2)


def test_adb_is_missing(mesp: Harness, tmp_path: Path) -> None:
    nothing = {**mesp.adb.environment, "PATH": str(tmp_path)}
    assert "apt-get install adb" in mesp("list", env=nothing, status=2)
    assert "is not a program" in mesp("list", env={**mesp.adb.environment, "ADB": "/nowhere/adb"}, status=2)


def test_a_server_of_another_version_is_replaced_and_told_of(mesp: Harness, tmp_path: Path) -> None:
    with OldServer() as old:
        environment = {**mesp.adb.environment, "ANDROID_ADB_SERVER_PORT": str(old.port)}
        said = mesp("logs", env=environment, status=2)
        subprocess.run([mesp.adb.program, "kill-server"], env=environment, timeout=SECONDS)
    assert "was of another version (31)" in said and "No device is connected" in said


class OldServer:
    """An adb server of version 31, until it is told to end."""

    def __enter__(self) -> "OldServer":
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            with peer:
                request = peer.recv(int(peer.recv(4), 16))
                peer.sendall(b"OKAY" + (b"0004001f" if request == b"host:version" else b""))
                if request == b"host:kill":
                    self._listener.close()

    def __exit__(self, *_: object) -> None:
        self._listener.close()


# --- Installation -----------------------------------------------------------------------------------------------------


def apk(folder: Path, *abis: str) -> Path:
    path = folder / "app.apk"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("AndroidManifest.xml", "")
        for abi in abis:
            archive.writestr(f"lib/{abi}/libexecutorch.so", "")
    return path


def test_install(mesp: Harness, phone: Phone, tmp_path: Path) -> None:
    assert "org.mesp.app 0.1.0 is on" in mesp("install", apk(tmp_path, "arm64-v8a", "x86_64"))
    assert phone.installed_sha256 != "0" * 64


def test_install_refuses_what_does_not_fit(mesp: Harness, phone: Phone, tmp_path: Path) -> None:
    assert "make apk" in mesp("install", status=2)
    assert "is not an APK" in mesp("install", DATA, status=2)
    assert "runs arm64-v8a, x86_64 alone" in mesp("install", apk(tmp_path, "mips"), status=2)
    phone.set_property("ro.build.version.sdk", "25")
    assert "the app needs 26" in mesp("install", apk(tmp_path, "x86_64"), status=2)


@pytest.mark.parametrize(
    ("failure", "advice"),
    [
        (
            "INSTALL_FAILED_NO_MATCHING_ABIS: Failed to extract native libraries, res=-113",
            "no library for this phone's",
        ),
        (
            "INSTALL_FAILED_UPDATE_INCOMPATIBLE: Package org.mesp.app signatures do not match",
            "adb uninstall org.mesp.app",
        ),
        ("INSTALL_FAILED_INSUFFICIENT_STORAGE", "storage is full"),
        ("INSTALL_FAILED_USER_RESTRICTED: Install canceled by user", "Install via USB"),
        ("INSTALL_FAILED_SOMETHING_NEW", "INSTALL_FAILED_SOMETHING_NEW"),
    ],
)
def test_install_says_why_android_refused(
    mesp: Harness, phone: Phone, tmp_path: Path, failure: str, advice: str
) -> None:
    phone.fail_install(failure)
    assert advice in mesp("install", apk(tmp_path, "x86_64"), status=1)


def test_nothing_is_sent_without_the_app(mesp: Harness, adb: AdbServer, tmp_path: Path) -> None:
    with Phone(tmp_path / "bare") as phone:
        adb.connect(phone)
        for words in (("push", BUNDLE), ("train", "llama", "--data", DATA, "-o", "first"), ("tell", "stop")):
            assert "mesp device install" in mesp(*words, status=2)
        assert "make apk" in mesp(*train(), status=2)
        adb.run("disconnect", phone.serial)


# --- Files ------------------------------------------------------------------------------------------------------------


def same(there: Path, here: Path) -> bool:
    names = sorted(str(path.relative_to(here)) for path in here.rglob("*") if path.is_file())
    found = sorted(str(path.relative_to(there)) for path in there.rglob("*") if path.is_file())
    return names == found and all((there / name).read_bytes() == (here / name).read_bytes() for name in names)


def test_push_sends_what_is_not_there(mesp: Harness, phone: Phone) -> None:
    there = phone.files / "bundles" / "llama"
    assert "are there already" not in mesp("push", BUNDLE) and same(there, BUNDLE)
    (there / ".weights.safetensors.0123456789ab.part").write_text("of another time")
    (there / "adapter.safetensors").write_text("damaged")
    said = mesp("push", BUNDLE)
    assert "1 file to send" in said and same(there, BUNDLE)
    assert "0 files to send" in mesp("push", BUNDLE)


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
    process = mesp.start("push", large)
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
    said = mesp("push", large, "--reconnect", 0.5, status=1)
    assert f"adb connect {phone.serial}" in said
    phone.daemon.reconnect()
    mesp.adb.connect(phone)
    (part,) = (phone.files / "bundles" / "large").glob(".adapter.safetensors.*.part")
    before = part.stat().st_size
    assert before >= 16 << 20
    with part.open("ab") as file:
        file.write(b"half of a slice")
    inode = part.stat().st_ino
    mesp("push", large)
    assert same(phone.files / "bundles" / "large", large)
    assert (phone.files / "bundles" / "large" / "adapter.safetensors").stat().st_ino == inode


def test_a_full_storage(mesp: Harness, phone: Phone, large: Path) -> None:
    phone.fill_storage(30 << 20)
    said = mesp("push", large, status=2)
    assert "MB free" in said and "mesp device clean" in said
    phone.override(f"df -k {phone.place('/sdcard')}/", "df: no such option", 1)
    assert "storage is full" in mesp("push", large, status=1)
    assert not (phone.files / "bundles" / "large" / "manifest.json").exists()
    phone.free_storage()
    mesp("push", large)
    assert same(phone.files / "bundles" / "large", large)


def test_bad_input_reaches_no_phone(mesp: Harness, phone: Phone, tmp_path: Path) -> None:
    assert "manifest.json" in mesp("push", tmp_path, status=2)
    damaged = tmp_path / "damaged"
    shutil.copytree(BUNDLE, damaged)
    (damaged / "adapter.safetensors").write_text("changed")
    assert "damaged" in mesp("push", damaged, status=2)
    assert "--data FILE" in mesp("run", BUNDLE, "-o", "first", status=2)
    assert "Give one of them" in mesp(*train("first", "--detach", "--remove"), status=2)
    assert "at least 0" in mesp(*train("first", "--sample-every", "-1"), status=2)
    assert "There is no file" in mesp("run", BUNDLE, "--data", "nothere", "-o", "first", status=2)
    assert "--lr" in mesp(*train("first", "--lr", "-1"), status=2)
    assert "cannot be a folder's name" in mesp(*train("a b"), status=2)
    assert "has no bundle other" in mesp("train", "other", "--data", DATA, "-o", "first", status=2)
    assert not (phone.files / "bundles").exists() and not (mesp.folder / "first").exists()


# --- Runs -------------------------------------------------------------------------------------------------------------


def test_one_command_from_a_bundle_to_a_report(mesp: Harness, phone: Phone) -> None:
    said = mesp(*train(steps=60))
    run = mesp.folder / "first"
    assert "step 60/60" in said and str(Path("first", "report.html")) in said
    assert logged(mesp) == list(range(1, 61))
    assert "Phone, and its memory from outside of the app" in (run / "report.html").read_text()
    memory = device_json(mesp)["memory"]
    assert memory["agrees"] and memory["samples"] >= 5 and memory["outside_source"] == "status"
    assert abs(memory["outside_over_inside"] - 1) < 0.05
    assert device_json(mesp)["end"] == {"status": "done", "reason": ""}
    assert (run / "adapter" / "adapter_model.safetensors").is_file() and not (run / "checkpoints").exists()


def test_a_debuggable_app_is_read_by_run_as(mesp: Harness, phone: Phone) -> None:
    phone.set_debuggable(True)
    mesp(*train(steps=60))
    memory = device_json(mesp)["memory"]
    assert memory["outside_source"] == "smaps_rollup" and memory["agrees"]


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
    assert process.returncode == 1 and "mesp device follow" in said
    phone.daemon.reconnect()
    mesp.adb.connect(phone)
    mesp("follow", "first")
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


def test_detached_and_followed_again(mesp: Harness, phone: Phone) -> None:
    assert "mesp device follow first" in mesp(*train("first", "--detach", steps=60))
    wait(lambda: (phone.files / "runs" / "first" / "steps.jsonl").exists(), "the run")
    assert "step 60/60" in mesp("follow", "first")
    assert logged(mesp) == list(range(1, 61))
    assert "does not know a run other" in mesp("follow", "other", status=2)


def test_told_to_stop_and_resumed(mesp: Harness, phone: Phone) -> None:
    process = mesp.start(*train(steps=100))
    wait(lambda: len(logged(mesp)) > 10, "some steps")
    assert "invalid choice" in mesp("tell", "nonsense", status=2)
    mesp("tell", "stop")
    said = "".join(process.communicate(timeout=SECONDS))
    assert process.returncode == 130 and "--resume" in said
    mesp(*train("first", "--resume"))
    assert device_json(mesp)["end"]["status"] == "done"


def test_a_resumed_run_keeps_its_checkpoints_and_what_is_known_of_it(mesp: Harness, phone: Phone) -> None:
    process = mesp.start(*train("first", "--checkpoint-every", 10, steps=60))
    wait(lambda: len(logged(mesp)) > 25, "some steps")
    phone.app.kill("LOW_MEMORY")
    process.communicate(timeout=SECONDS)
    before = device_json(mesp)
    said = mesp("train", "-o", "first", "--resume", "--fresh")
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


def test_a_kernel_that_does_not_tell_anonymous_memory(tmp_path: Path) -> None:
    said = {"status": "Name:\tapp\nVmRSS:\t 9 kB\n", "meminfo": "MemTotal: 9 kB\n", "frequencies": ""}
    assert outside_kernel(said)["footprint_bytes"] is None


def test_a_log_that_cannot_be_followed(mesp: Harness, phone: Phone) -> None:
    (phone.state.root / "bin" / "logcat").write_text("#!/bin/sh\necho 'Logcat read failure: No such device'\n")
    assert "Logcat read failure" in mesp(*train(steps=200), status=1)


def test_a_command_without_a_run_is_refused(mesp: Harness, phone: Phone) -> None:
    assert "does not run" in mesp("tell", "stop", status=2)
    process = mesp.start(*train(steps=100))
    wait(lambda: len(logged(mesp)) > 10, "some steps")
    assert "was told to stop" in mesp("tell", "stop")
    process.communicate(timeout=SECONDS)


# --- Ctrl-C -----------------------------------------------------------------------------------------------------------


def test_ctrl_c_without_a_terminal_leaves_the_run(mesp: Harness, phone: Phone) -> None:
    process = mesp.start(*train(steps=100))
    wait(lambda: len(logged(mesp)) > 10, "some steps")
    process.send_signal(signal.SIGINT)
    said = "".join(process.communicate(timeout=SECONDS))
    assert process.returncode == 130 and "goes on on the phone" in said
    mesp("follow", "first")
    assert logged(mesp)[-1] == 100


@pytest.mark.parametrize(
    ("answer", "status", "end"), [("s", 130, "interrupted"), ("l", 130, "detached"), ("", 0, "done")]
)
def test_ctrl_c_on_a_terminal_asks(mesp: Harness, phone: Phone, answer: str, status: int, end: str) -> None:
    ours, theirs = pty.openpty()
    process = mesp.start(*train(steps=80), stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    said: list[str] = []
    reader = threading.Thread(target=read_terminal, args=(ours, said), daemon=True)
    reader.start()
    wait(lambda: len(logged(mesp)) > 10, "some steps")
    process.send_signal(signal.SIGINT)
    wait(lambda: "Stop the run on the phone" in "".join(said), "the question")
    os.write(ours, f"{answer}\n".encode())
    assert process.wait(timeout=SECONDS) == status, "".join(said)
    assert device_json(mesp)["end"]["status"] == end
    os.close(ours)


def read_terminal(descriptor: int, said: list[str]) -> None:
    try:
        while text := os.read(descriptor, 4096):
            said.append(text.decode(errors="replace"))
    except OSError:
        pass


# --- What is left -----------------------------------------------------------------------------------------------------


def test_logs_pull_and_clean(mesp: Harness, phone: Phone) -> None:
    mesp(*train(steps=5))
    said = mesp("logs", "first")
    assert '"event":"step"' in said and "Runs on" in said
    mesp("pull", "first", "-o", "again")
    assert (mesp.folder / "again" / "report.html").is_file() and not (mesp.folder / "again" / "checkpoints").exists()
    mesp("pull", "first", "-o", "again", "--checkpoints")
    assert list((mesp.folder / "again" / "checkpoints").iterdir())
    assert "has no run other" in mesp("pull", "other", status=2)
    assert "Say so with --yes" in mesp("clean", status=2)
    assert "is not one of" in mesp("clean", "everything", "--yes", status=2)
    mesp("clean", "runs", "--yes")
    assert not (phone.files / "runs").exists() and (phone.files / "bundles").exists()
    mesp("clean", "--yes")
    assert not list(phone.files.iterdir())


def test_runs_side_by_side(mesp: Harness, phone: Phone) -> None:
    mesp(*train("first", steps=20))
    mesp(*train("second", steps=20))
    host = CASES / "runs" / "llama-sgd" / "host"
    mesp("report", "first", "second", host, "-o", "all.html")
    page = (mesp.folder / "all.html").read_text()
    assert "Google Pixel 8" in page and "first" in page and "second" in page
    mesp("report", "first")


# --- The app's own core -----------------------------------------------------------------------------------------------


@pytest.fixture
def real(adb: AdbServer, tmp_path: Path) -> Iterator[Phone]:
    """The app's process is android_app/core on the JVM, with Android's own library."""
    with Phone(tmp_path / "real", trainer=core()) as made:
        adb.connect(made)
        made.install()
        made.set_debuggable(True)
        yield made
        adb.run("disconnect", made.serial)
    check_phone(made)
    check_fetched(tmp_path / "here")


def test_losses_on_the_phone_are_those_of_the_host(mesp: Harness, real: Phone) -> None:
    settings = json.loads((CASES / "runs" / "llama-sgd" / "settings.json").read_text())
    options = ("--steps", settings["steps"], "--optimizer", "sgd", "--lr", settings["lr"])
    mesp("run", BUNDLE, "--data", DATA, "-o", "first", *options)
    losses = [
        [json.loads(line)["loss"] for line in (run / "steps.jsonl").open()]
        for run in (CASES / "runs" / "llama-sgd" / "host", mesp.folder / "first")
    ]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5) and len(losses[1]) == 20


def test_inside_and_outside_see_the_same_memory(mesp: Harness, real: Phone) -> None:
    mesp("run", BUNDLE, "--data", DATA, "-o", "first", "--steps", 500, "--sample-every", 0.2, "--lr", "1e-4")
    memory = device_json(mesp)["memory"]
    assert memory["agrees"] and memory["samples"] >= 5 and memory["outside_source"] == "smaps_rollup"


def test_stopped_on_the_phone_and_gone_on_with(mesp: Harness, real: Phone) -> None:
    process = mesp.start("run", BUNDLE, "--data", DATA, "-o", "first", "--steps", 800, "--lr", "1e-4")
    wait(lambda: len(logged(mesp)) > 50, "some steps")
    mesp("tell", "stop")
    said = "".join(process.communicate(timeout=SECONDS))
    assert process.returncode == 130, said
    stopped = json.loads((mesp.folder / "first" / "report.json").read_text())["steps"]
    assert 50 < stopped < 800
    assert f"going on after step {stopped}" in mesp(*train("first", "--resume"))
    assert json.loads((mesp.folder / "first" / "report.json").read_text())["steps"] == 800


def test_a_run_that_fails_on_the_phone(mesp: Harness, real: Phone) -> None:
    (real.files / "bundles" / "broken").mkdir(parents=True)
    said = mesp("train", "broken", "--data", DATA, "-o", "first", status=1)
    assert "mesp device: first:" in said and "manifest.json" in said
    assert device_json(mesp)["end"]["status"] == "failed"


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
