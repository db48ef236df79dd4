"""The stand-in is a phone to the real adb client: what the tests of the harness rest on."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from phone_contract import check_phone
from standin.adb_server import AdbServer
from standin.phone import Phone
from standin.trainers import fake

SECONDS = 15
SERVICE = "org.mesp.app/.TrainService"


@pytest.fixture
def phone(adb: AdbServer, tmp_path: Path) -> Iterator[Phone]:
    with Phone(tmp_path / "phone", trainer=fake(seconds=0.02, megabytes=5)) as made:
        assert adb.connect(made) == f"connected to {made.serial}"
        yield made
    adb.run("disconnect", made.serial)
    check_phone(made)


def wait(until: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not until():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


def shell(adb: AdbServer, phone: Phone, command: str, **options: Any) -> "subprocess.CompletedProcess[str]":
    return adb.run("-s", phone.serial, "shell", command, **options)


def file_of(path: Path, nbytes: int) -> Path:
    path.write_bytes(os.urandom(nbytes))
    return path


# --- The connection ---------------------------------------------------------------------------------------------------


def test_two_devices_are_told_apart_by_serial_and_model(adb: AdbServer, phone: Phone, tmp_path: Path) -> None:
    with Phone(tmp_path / "other") as other:
        adb.connect(other)
        other.set_property("ro.product.model", "Other")
        assert adb.devices() == {phone.serial: "device", other.serial: "device"}
        listed = adb.run("devices", "-l").stdout
        assert "product:shiba model:Pixel_8 device:shiba" in listed
        models = [shell(adb, one, "getprop ro.product.model").stdout for one in (phone, other)]
        assert models == ["Pixel 8\n", "Other\n"]
        assert "more than one device" in adb.run("shell", "true").stderr
        adb.run("disconnect", other.serial)


def test_a_phone_that_nobody_confirmed_is_unauthorized(adb: AdbServer, phone: Phone) -> None:
    adb.run("disconnect", phone.serial)
    phone.daemon.unauthorized()
    adb.connect(phone)
    wait(lambda: adb.devices().get(phone.serial) == "unauthorized", "unauthorized")
    assert "device unauthorized" in shell(adb, phone, "true").stderr


def test_a_phone_that_does_not_answer_any_more_is_offline(adb: AdbServer, phone: Phone) -> None:
    phone.daemon.offline()
    wait(lambda: adb.devices()[phone.serial] == "offline", "offline")
    assert "device offline" in shell(adb, phone, "true").stderr


def test_a_cable_that_is_pulled_ends_what_goes_on_and_is_plugged_in_again(adb: AdbServer, phone: Phone) -> None:
    """The client's exit status is 0, although the command did not end: it has to say itself that it did."""
    process = adb.start("-s", phone.serial, "shell", "echo $$; exec sleep 100")
    assert process.stdout
    with process.stdout:
        pid = int(process.stdout.readline())
        phone.daemon.disconnect()
        assert process.wait(SECONDS) == 0
    wait(lambda: not Path(f"/proc/{pid}").exists(), "the command's end")
    assert adb.devices().get(phone.serial) != "device"
    phone.daemon.reconnect()
    adb.run("disconnect", phone.serial)
    adb.connect(phone)
    assert adb.devices()[phone.serial] == "device"


def test_the_server_finds_a_phone_again_by_itself(adb: AdbServer, phone: Phone) -> None:
    phone.daemon.disconnect()
    phone.daemon.reconnect()
    adb.run("-s", phone.serial, "wait-for-device", check=True)
    assert shell(adb, phone, "echo there").stdout == "there\n"


def test_a_cable_that_is_pulled_in_the_middle_of_a_push(adb: AdbServer, phone: Phone, tmp_path: Path) -> None:
    phone.daemon.disconnect_after_bytes(1_000_000)
    pushed = adb.run("-s", phone.serial, "push", file_of(tmp_path / "big", 5_000_000), "/data/local/tmp/big")
    assert pushed.returncode != 0
    wait(lambda: not phone.place("/data/local/tmp/big").exists(), "the half of a file to be gone, as adbd removes it")
    phone.daemon.reconnect()
    adb.run("disconnect", phone.serial)
    adb.connect(phone)
    assert adb.run("-s", phone.serial, "push", tmp_path / "big", "/data/local/tmp/big").returncode == 0


def test_an_unknown_service_is_refused(adb: AdbServer, phone: Phone) -> None:
    assert "error: closed" in adb.run("-s", phone.serial, "reverse", "tcp:1", "tcp:2").stderr


# --- Commands ---------------------------------------------------------------------------------------------------------


def test_a_command_has_its_exit_status_and_its_two_outputs(adb: AdbServer, phone: Phone) -> None:
    found = shell(adb, phone, "echo out; echo error >&2; exit 7")
    assert (found.returncode, found.stdout, found.stderr) == (7, "out\n", "error\n")
    assert shell(adb, phone, "kill -9 $$").returncode == 137


def test_without_the_shell_protocol_both_outputs_are_one(adb: AdbServer, tmp_path: Path) -> None:
    with Phone(tmp_path / "old", features="cmd") as phone:
        adb.connect(phone)
        found = shell(adb, phone, "echo out; echo error >&2; exit 7")
        assert (found.returncode, found.stdout, found.stderr) == (0, "out\nerror\n", "")
        adb.run("disconnect", phone.serial)
    check_phone(phone)


def test_a_command_reads_what_the_client_is_given(adb: AdbServer, phone: Phone) -> None:
    text = "line\n" * 200_000
    assert shell(adb, phone, "cat", input=text).stdout == text
    adb.run("-s", phone.serial, "exec-in", "cat > /sdcard/in", input=text)
    place = phone.place("/sdcard/in")
    wait(lambda: place.exists() and place.stat().st_size == len(text), "all of the input")
    assert adb.run("-s", phone.serial, "exec-out", "cat /sdcard/in").stdout == text


def test_a_command_on_a_terminal(adb: AdbServer, phone: Phone) -> None:
    found = adb.run("-s", phone.serial, "shell", "-tt", "tty && echo $TERM", input="", check=True).stdout
    assert found.startswith("/dev/pts/")


def test_several_commands_at_once(adb: AdbServer, phone: Phone) -> None:
    began = time.monotonic()
    processes = [adb.start("-s", phone.serial, "shell", f"sleep 0.5; echo {number}") for number in range(6)]
    assert [process.communicate()[0] for process in processes] == [f"{number}\n" for number in range(6)]
    assert time.monotonic() - began < 2.5


def test_a_command_ends_with_its_client(adb: AdbServer, phone: Phone) -> None:
    process = adb.start("-s", phone.serial, "shell", "echo $$; sleep 100; true")
    assert process.stdout
    with process.stdout:
        pid = int(process.stdout.readline())
        process.kill()
        process.wait()
    wait(lambda: not Path(f"/proc/{pid}").exists(), "the command's end")


def test_what_the_phone_says_can_be_set(adb: AdbServer, phone: Phone) -> None:
    phone.set_battery(temperature=455)
    assert "  temperature: 455\n" in shell(adb, phone, "dumpsys battery").stdout
    phone.set_thermal_status(3)
    assert "Thermal Status: 3\n" in shell(adb, phone, "dumpsys thermalservice").stdout
    phone.override("dumpsys battery", "  temperature: ٤٥٥\n", status=3)
    found = shell(adb, phone, "dumpsys battery")
    assert (found.returncode, found.stdout) == (3, "  temperature: ٤٥٥\n")
    phone.set_clock_ahead(3600)
    assert float(shell(adb, phone, "date +%s.%N").stdout) == pytest.approx(time.time() + 3600, abs=5)
    assert shell(adb, phone, "dumpsys package org.mesp.app").stdout == "Unable to find package: org.mesp.app\n"


def test_the_log_is_read_from_a_time_of_the_phones_clock(adb: AdbServer, phone: Phone) -> None:
    phone.install()
    stop = f"am startservice -n {SERVICE} -a org.mesp.app.action.STOP"
    shell(adb, phone, stop, check=True)
    phone.set_clock_ahead(5000)
    since = shell(adb, phone, "date +%s.%3N").stdout.strip()
    shell(adb, phone, stop, check=True)
    found = adb.run("-s", phone.serial, "logcat", "-d", "-v", "epoch", "-T", since).stdout.splitlines()
    assert found[0] == "--------- beginning of main" and len(found) == 2
    assert float(found[1].split()[0]) == pytest.approx(time.time() + 5000, abs=5)
    assert adb.run("-s", phone.serial, "logcat", "-d", "-t", "1").stdout.count("No run is under way.") == 1
    assert adb.run("-s", phone.serial, "logcat", "-d", "-s", "other:V").stdout == ""
    assert adb.run("-s", phone.serial, "logcat", "-d", "mesp:F", "*:S").stdout == ""


def test_run_as_serves_a_debuggable_app_only(adb: AdbServer, phone: Phone) -> None:
    phone.install()
    found = shell(adb, phone, "run-as org.mesp.app ls")
    assert (found.returncode, found.stderr) == (1, "run-as: package not debuggable: org.mesp.app\n")
    phone.set_debuggable(True)
    assert shell(adb, phone, "run-as org.mesp.app ls").stdout == "files\n"


# --- Files ------------------------------------------------------------------------------------------------------------


def test_files_go_there_and_back(adb: AdbServer, phone: Phone, tmp_path: Path) -> None:
    source = file_of(tmp_path / "big", 5_000_000)
    adb.run("-s", phone.serial, "push", source, "/data/local/tmp/new/big", check=True)
    adb.run("-s", phone.serial, "pull", "/data/local/tmp/new/big", tmp_path / "back", check=True)
    assert (tmp_path / "back").read_bytes() == source.read_bytes()
    digest = shell(adb, phone, "sha256sum /data/local/tmp/new/big").stdout.split()[0]
    assert digest == hashlib.sha256(source.read_bytes()).hexdigest()
    adb.run("-s", phone.serial, "pull", "/data/local/tmp/new", tmp_path / "folder", check=True)
    assert (tmp_path / "folder" / "big").read_bytes() == source.read_bytes()
    missing = adb.run("-s", phone.serial, "pull", "/sdcard/none", tmp_path / "none")
    assert missing.returncode == 1 and "No such file or directory" in missing.stdout + missing.stderr


def test_adb_may_not_push_into_the_apps_folder_but_the_shell_may_write(
    adb: AdbServer, phone: Phone, tmp_path: Path
) -> None:
    target = "/sdcard/Android/data/org.mesp.app/files/data/rows"
    source = file_of(tmp_path / "rows", 100)
    pushed = adb.run("-s", phone.serial, "push", source, target)
    assert pushed.returncode == 1
    assert "remote fchown failed: Operation not permitted" in pushed.stdout + pushed.stderr
    assert not phone.place(target).exists()
    shell(adb, phone, f"cat > {target}", stdin=open(source, "rb"), check=True)  # noqa: SIM115
    assert (phone.files / "data" / "rows").read_bytes() == source.read_bytes()
    phone.set_property("ro.build.version.sdk", "29")
    assert adb.run("-s", phone.serial, "push", source, target).returncode == 0


def test_a_full_storage(adb: AdbServer, phone: Phone, tmp_path: Path) -> None:
    source = file_of(tmp_path / "big", 3_000_000)
    phone.fill_storage(1_000_000)
    pushed = adb.run("-s", phone.serial, "push", source, "/data/local/tmp/big")
    assert "No space left on device" in pushed.stdout + pushed.stderr
    phone.fill_storage(1_000_000)
    assert shell(adb, phone, "df -k /sdcard").stdout.splitlines()[1].split()[3] == "976"
    written = shell(adb, phone, "cat >> /sdcard/big", stdin=open(source, "rb"))  # noqa: SIM115
    assert (written.returncode, written.stderr) == (1, "cat: xwrite: No space left on device\n")
    assert phone.place("/sdcard/big").stat().st_size == 1_000_000
    phone.free_storage()
    shell(adb, phone, "cat >> /sdcard/big", stdin=open(source, "rb"), check=True)  # noqa: SIM115


def test_the_app_is_installed_and_removed(adb: AdbServer, phone: Phone, tmp_path: Path) -> None:
    apk = file_of(tmp_path / "app.apk", 300_000)
    phone.fail_install("INSTALL_FAILED_NO_MATCHING_ABIS: Failed to extract native libraries, res=-113")
    refused = adb.run("-s", phone.serial, "install", "-r", apk)
    assert refused.returncode == 1 and "Failure [INSTALL_FAILED_NO_MATCHING_ABIS" in refused.stderr
    phone.fail_install(None)
    phone.fill_storage(1000)
    assert "INSTALL_FAILED_INSUFFICIENT_STORAGE" in adb.run("-s", phone.serial, "install", apk).stderr
    phone.free_storage()
    assert adb.run("-s", phone.serial, "install", "-r", apk).stdout.endswith("Success\n")
    assert phone.installed_sha256 == hashlib.sha256(apk.read_bytes()).hexdigest()
    assert "versionName=0.1.0" in shell(adb, phone, "dumpsys package org.mesp.app").stdout
    assert adb.run("-s", phone.serial, "uninstall", "org.mesp.app").stdout == "Success\n"
    assert phone.installed_sha256 is None and not phone.files.exists()


# --- The app ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def ready(phone: Phone) -> Phone:
    """With the app, a bundle and rows."""
    phone.install()
    (phone.files / "bundles" / "tiny").mkdir(parents=True)
    (phone.files / "data").mkdir()
    (phone.files / "data" / "rows.jsonl").write_text("{}\n")
    return phone


def train(adb: AdbServer, phone: Phone, run: str, steps: int | None = None, more: str = "") -> None:
    settings = "" if steps is None else f""" --es settings '{{"steps": {steps}, "checkpoint_every": 10}}'"""
    extras = f"--es bundle bundles/tiny --es data data/rows.jsonl --es output {run}{settings} {more}"
    action = "org.mesp.app.action.TRAIN"
    shell(adb, phone, f"am start-foreground-service -n {SERVICE} -a {action} {extras}", check=True)


def events(adb: AdbServer, phone: Phone) -> list[dict[str, Any]]:
    text = adb.run("-s", phone.serial, "logcat", "-d", "-v", "epoch", "-s", "mesp").stdout
    return [json.loads(line.partition(": ")[2]) for line in text.splitlines() if not line.startswith("---")]


def names(adb: AdbServer, phone: Phone) -> list[str]:
    return [event["event"] for event in events(adb, phone)]


def test_a_run_is_followed_in_the_log_and_outlives_its_client(adb: AdbServer, ready: Phone) -> None:
    log = adb.start("-s", ready.serial, "logcat", "-v", "epoch", "-T", "1", "-s", "mesp")
    assert log.stdout
    train(adb, ready, "one", 12)
    pid = int(shell(adb, ready, "pidof org.mesp.app").stdout)
    assert Path(f"/proc/{pid}").exists()
    assert str(pid) in shell(adb, ready, f"dumpsys meminfo {pid}").stdout
    seen = []
    with log.stdout:
        for line in log.stdout:
            if found := re.match(r" *(\d+\.\d{3}) +(\d+) +\d+ I mesp    : (.*)", line):
                assert int(found[2]) == pid and abs(float(found[1]) - time.time()) < SECONDS
                seen.append(json.loads(found[3]))
            if seen and seen[-1]["event"] == "end":
                break
        log.kill()
        log.wait()
    assert [event["event"] for event in seen] == [
        *("start", "begin", *["step"] * 10, "checkpoint"),
        *("step", "step", "checkpoint", "end"),
    ]
    assert seen[1] == {
        "event": "begin",
        "run": "one",
        "first": 0,
        "steps": 12,
        "examples": 100,
        "cut_rows": 0,
        "masked_rows": 0,
    }
    assert seen[-1]["status"] == "done" and seen[-1]["memory"]["delta_footprint_bytes"] > 5e6
    wait(lambda: not ready.app.pid, "the end of the process")
    assert shell(adb, ready, "pidof org.mesp.app").returncode == 1
    mesp = Path(sys.executable).with_name("mesp")
    subprocess.run([mesp, "report", ready.files / "runs" / "one"], check=True, timeout=60)


def test_a_killed_run_is_resumed_with_what_it_was_started_with(adb: AdbServer, ready: Phone) -> None:
    train(adb, ready, "one", 40)
    wait(lambda: names(adb, ready).count("step") >= 13, "13 steps")
    ready.app.kill("LOW_MEMORY")
    assert names(adb, ready)[-1] in ("step", "checkpoint")  # the app had no time for another word
    exit_info = shell(adb, ready, "dumpsys activity exit-info org.mesp.app").stdout
    assert re.search(
        r"ApplicationExitInfo #0:\n\s+timestamp=.* pid=\d+ .*\n\s+process=org.mesp.app reason=3 \(LOW_MEMORY\)",
        exit_info,
    )
    adb.run("-s", ready.serial, "logcat", "-c")
    action = "org.mesp.app.action.TRAIN"
    command = f"am start-foreground-service -n {SERVICE} -a {action} --es output one --ez resume true"
    shell(adb, ready, command, check=True)
    wait(lambda: names(adb, ready)[-1:] == ["end"], "the end")
    found = events(adb, ready)
    first = found[1]["first"]
    assert found[0]["settings"]["steps"] == 40 and first in (10, 20, 30)
    assert [event["step"] for event in found if event["event"] == "step"] == list(range(first + 1, 41))
    lines = (ready.files / "runs" / "one" / "steps.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, 41))


def test_a_run_waits_and_ends_as_it_is_told(adb: AdbServer, ready: Phone) -> None:
    train(adb, ready, "one", 1000)
    wait(lambda: "step" in names(adb, ready), "a step")

    def tell(command: str) -> None:
        shell(adb, ready, f"am startservice -n {SERVICE} -a org.mesp.app.action.{command}", check=True)

    tell("PAUSE")
    assert [event for event in events(adb, ready) if event["event"].startswith("paus")] == [
        {"event": "pausing", "run": "one", "reasons": ["user"]},
        {"event": "paused", "run": "one", "reasons": ["user"]},
    ]
    steps = names(adb, ready).count("step")
    ready.heat()
    tell("CONTINUE")
    assert events(adb, ready)[-1] == {"event": "paused", "run": "one", "reasons": ["hot"]}
    assert names(adb, ready).count("step") == steps
    ready.cool()
    wait(lambda: names(adb, ready).count("step") > steps + 2, "more steps")
    tell("STOP")
    wait(lambda: not ready.app.pid, "the end")
    assert names(adb, ready)[-2:] == ["checkpoint", "end"]
    assert events(adb, ready)[-1]["status"] == "interrupted"
    tell("PAUSE")
    assert events(adb, ready)[-1] == {"event": "refused", "reason": "No run is under way."}


def test_a_run_waits_on_a_hot_phone_and_for_its_charger(adb: AdbServer, ready: Phone) -> None:
    ready.heat()
    ready.unplug()
    assert "USB powered: false" in shell(adb, ready, "dumpsys battery").stdout
    train(adb, ready, "one", 20, "--ez only_while_charging true")
    waits = {"event": "paused", "run": "one", "reasons": ["hot", "not_charging"]}
    wait(lambda: events(adb, ready)[-1] == waits, "the pause")
    ready.cool()
    ready.plug_in()
    wait(lambda: names(adb, ready)[-1] == "end", "the end")
    assert names(adb, ready).count("going_on") == 1
    assert json.loads((ready.files / "runs" / "one" / "report.json").read_text())["steps"] == 20


def test_starts_that_are_refused(adb: AdbServer, ready: Phone) -> None:
    train(adb, ready, "one", 1000)
    train(adb, ready, "two", 5)
    reason = "The run one is under way, and one runs at a time. Stop it first."
    refused = {"event": "refused", "run": "two", "reason": reason}
    assert refused in events(adb, ready)
    assert json.loads((ready.files / "runs" / "two" / "report.json").read_text())["reason"] == reason
    shell(adb, ready, "am force-stop org.mesp.app", check=True)
    assert (
        "reason=10 (USER REQUESTED) subreason=21 (FORCE STOP)" in shell(adb, ready, "dumpsys activity exit-info").stdout
    )
    train(adb, ready, "one", 5)
    assert events(adb, ready)[-1]["reason"] == "There is a run named one already. Resume it, or choose another name."
    shutil.rmtree(ready.files / "bundles" / "tiny")
    train(adb, ready, "three", 5)
    assert events(adb, ready)[-1] == {
        "event": "failed",
        "run": "three",
        "reason": "There is no bundle at bundles/tiny.",
    }
    report = json.loads((ready.files / "runs" / "three" / "report.json").read_text())
    assert (report["status"], report["steps"]) == ("failed", 0)


def test_crashes_are_in_the_crash_buffer_and_in_the_exits(adb: AdbServer, ready: Phone) -> None:
    train(adb, ready, "one", 1000)
    ready.app.crash()
    train(adb, ready, "two", 1000)
    ready.app.crash_native()
    crash = adb.run("-s", ready.serial, "logcat", "-d", "-b", "crash").stdout
    assert "E AndroidRuntime: FATAL EXCEPTION: training" in crash and "F DEBUG   : signal 11 (SIGSEGV)" in crash
    exit_info = shell(adb, ready, "dumpsys activity exit-info org.mesp.app").stdout
    assert re.findall(r"#(\d):|\breason=(\d+) \((.*)\) sub", exit_info) == [
        ("0", "", ""),
        ("", "5", "APP CRASH(NATIVE)"),
        ("1", "", ""),
        ("", "4", "APP CRASH(EXCEPTION)"),
    ]


def test_a_trainer_that_fails(adb: AdbServer, tmp_path: Path) -> None:
    """With what it says on standard error, as MainKt does."""
    from standin.trainers import Trainer

    failing = Trainer(["/bin/sh", "-c", "echo 'Step 1: the loss is NaN' >&2; exit 1"])
    with Phone(tmp_path / "phone", trainer=failing) as phone:
        adb.connect(phone)
        phone.install()
        (phone.files / "bundles" / "tiny").mkdir(parents=True)
        (phone.files / "data").mkdir()
        (phone.files / "data" / "rows.jsonl").write_text("{}\n")
        train(adb, phone, "one", 5)
        wait(lambda: not phone.app.pid, "the end")
        assert events(adb, phone)[-1] == {"event": "failed", "run": "one", "reason": "Step 1: the loss is NaN"}
        adb.run("disconnect", phone.serial)
    check_phone(phone)
