"""`mesp device` against a stand-in for a phone, by the real adb client: a command at a time. What goes wrong is in test_troubles."""

import json
import os
import pty
import shutil
import signal
import socket
import subprocess
import threading
import zipfile
from pathlib import Path

import pytest
from harness import BUNDLE, CASES, DATA, PHONES, SECONDS, Harness, device_json, logged, same, steps_in, train, wait
from standin.adb_server import AdbServer
from standin.newer_adb import NewerAdb
from standin.phone import Phone

from mesp.command_line.device import renamed
from mesp.device.listing import devices, services
from mesp.device.outside import _kernel as outside_kernel

# --- What is connected ------------------------------------------------------------------------------------------------


def test_list_tells_what_a_phone_has(mesp: Harness, phone: Phone) -> None:
    said = mesp("list")
    for word in (phone.serial, "Google Pixel 8", "14 (API 34)", "arm64-v8a", "GB free", "87%, charging", "28.1 °C"):
        assert word in said
    (found,) = json.loads(mesp("list", "--json"))
    assert found["sdk"] == 34 and found["abis"] == ["arm64-v8a", "x86_64"] and found["battery_celsius"] == 28.1


@pytest.mark.thorough  # test_dumpsys reads what they say too
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
        said = mesp("status", status=2)
        assert "2 devices are connected" in said and f"--serial {phone.serial}" in said
        assert "No run" in mesp("status", "--serial", other.serial)
        chosen = {**adb.environment, "ANDROID_SERIAL": phone.own_serial}
        assert "No run" in mesp("status", env=chosen)
        assert "There is no device nothere" in mesp("status", "-s", "nothere", status=2)
        assert "port changes" in mesp("status", "-s", "127.0.0.1:1", status=2)
        adb.run("disconnect", other.serial)


@pytest.mark.parametrize(
    ("state", "advice"),
    [
        ("unauthorized", "accept this computer's key"),
        pytest.param("offline", "Wireless debugging off and on", marks=pytest.mark.thorough),
    ],
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
        said = mesp("status", env=environment, status=2)
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


# --- Ways to a phone ---------------------------------------------------------------------------------------------------


def test_a_phone_by_cable_and_wifi_is_one(mesp: Harness, phone: Phone, adb: AdbServer) -> None:
    wireless = phone.another_way()
    adb.run("connect", wireless)
    (found,) = json.loads(mesp("list", "--json"))
    assert found["serial"] in (phone.serial, wireless)
    assert "Google Pixel 8" in mesp("status")
    phone.set_property("ro.serialno", "0123456789ABCDEF")  # others have that number too
    assert "2 devices are connected" in mesp("status", status=2)
    adb.run("disconnect", wireless)


def test_a_name_that_a_phone_announces(mesp: Harness, phone: Phone, adb: AdbServer, tmp_path: Path) -> None:
    newer, name = NewerAdb(tmp_path, adb.program), f"adb-{phone.own_serial}-bo0E0q (2)._adb-tls-connect._tcp"
    newer.announce({name: phone.serial})
    environment = {**adb.environment, "ADB": str(newer.program)}
    for words in (("-s", name), ("-s", phone.own_serial)):
        assert f"{name}: Google Pixel 8" in mesp("status", *words, env=environment)


def test_what_adb_lists_is_read_with_spaces_and_states() -> None:
    text = "List of devices attached\nadb-A1-x (2)._adb-tls-connect._tcp\tdevice\nR58 \t no permissions (missing udev rules?); see [x]\n\n"
    wireless, cable = devices(text)
    assert (wireless.serial, wireless.ready, wireless.way) == ("adb-A1-x (2)._adb-tls-connect._tcp", True, 1)
    assert cable.serial == "R58" and "udev" in cable.state and "android-sdk-platform-tools-common" in cable.what_to_do
    (service,) = services(
        "List of discovered mdns services\nadb-A1-x\t_adb-tls-connect._tcp\t192.168.1.2:4567\nadb-B\t_adb._tcp\tx:1\n"
    )
    assert service.address == "192.168.1.2:4567" and service.is_of("A1") and not service.is_of("A")


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
        for words in (
            ("run", BUNDLE, "--send-only"),
            ("run", "llama", "--on-phone", "--data", DATA, "-o", "first"),
            ("status", "--tell", "stop"),
        ):
            assert "mesp device install" in mesp(*words, status=2)
        assert "make apk" in mesp(*train(), status=2)
        adb.run("disconnect", phone.serial)


# --- Files ------------------------------------------------------------------------------------------------------------


def test_push_sends_what_is_not_there(mesp: Harness, phone: Phone) -> None:
    there = phone.files / "bundles" / "llama"
    assert "are there already" not in mesp("run", BUNDLE, "--send-only") and same(there, BUNDLE)
    (there / ".weights.safetensors.0123456789ab.part").write_text("of another time")
    (there / "adapter.safetensors").write_text("damaged")
    said = mesp("run", BUNDLE, "--send-only")
    assert "1 file to send" in said and same(there, BUNDLE)
    assert "0 files to send" in mesp("run", BUNDLE, "--send-only")


def test_bad_input_reaches_no_phone(mesp: Harness, phone: Phone, tmp_path: Path) -> None:
    assert "manifest.json" in mesp("run", tmp_path, "--send-only", status=2)
    damaged = tmp_path / "damaged"
    shutil.copytree(BUNDLE, damaged)
    (damaged / "adapter.safetensors").write_text("changed")
    assert "damaged" in mesp("run", damaged, "--send-only", status=2)
    assert "--data FILE" in mesp("run", BUNDLE, "-o", "first", status=2)
    assert "Give one of them" in mesp(*train("first", "--detach", "--remove"), status=2)
    assert "at least 0" in mesp(*train("first", "--sample-every", "-1"), status=2)
    assert "There is no data file at nothere" in mesp("run", BUNDLE, "--data", "nothere", "-o", "first", status=2)
    assert "--lr" in mesp(*train("first", "--lr", "-1"), status=2)
    assert "cannot be a folder's name" in mesp(*train("a b"), status=2)
    assert "has no bundle other" in mesp("run", "other", "--on-phone", "--data", DATA, "-o", "first", status=2)
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


def test_the_status_of_a_run(mesp: Harness, phone: Phone) -> None:
    mesp(*train("first", "--detach", steps=300))
    wait(lambda: steps_in(phone) > 3, "some steps")
    said = mesp("status")
    assert "Google Pixel 8, battery 87%, charging, 28.1 °C" in said and "Run first: training" in said
    assert "of 300, loss" in said and "s left" in said and "free on the phone" in said
    mesp("status", "--tell", "stop")
    wait(lambda: not phone.app.pid, "the end")
    found = json.loads(mesp("status", "--json"))
    assert (found["state"], found["memory"], found["runs"], found["steps"]) == ("interrupted", None, ["first"], 300)


def test_a_run_is_watched_whose_start_the_log_has_lost(mesp: Harness, phone: Phone) -> None:
    assert "mesp device status first --watch" in mesp(*train("first", "--detach", steps=60))
    wait(lambda: steps_in(phone) > 3, "some steps")
    phone.lose_log()
    said = mesp("status", "--watch", "--sample-every", 0.2)
    assert "100 sequences, 60 steps" in said and "step 60/60" in said
    assert device_json(mesp)["end"]["status"] == "done" and device_json(mesp)["notes"] == []
    phone.lose_log()
    assert "step 60/60" in mesp("status", "first", "--watch", "-o", "again")
    assert device_json(mesp, "again")["end"]["status"] == "done"
    assert "has no run other; it has first" in mesp("status", "other", "--watch", status=2)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("push bundle", "device run --send-only bundle"),
        ("follow first -o x", "device status --watch first -o x"),
        ("tell stop", "device status --tell stop"),
        ("report first -o x", "report first -o x"),
    ],
)
def test_commands_of_before_have_new_names(old: str, new: str) -> None:
    words, said = renamed(["--debug", "device", *old.split()])
    assert words == ["--debug", *new.split()] and said.startswith(f"mesp device {old.split()[0]} is now: mesp ")
    assert renamed(words) == (words, "") and renamed([]) == ([], "")


def test_an_old_name_still_works_and_says_the_new_one(mesp: Harness, phone: Phone) -> None:
    assert "mesp device push is now: mesp device run BUNDLE --send-only" in mesp("push", BUNDLE)
    assert "--send-only" in mesp("--help")


def test_told_to_stop_and_resumed(mesp: Harness, phone: Phone) -> None:
    process = mesp.start(*train(steps=100))
    wait(lambda: len(logged(mesp)) > 10, "some steps")
    assert "invalid choice" in mesp("status", "--tell", "nonsense", status=2)
    mesp("status", "--tell", "stop")
    said = "".join(process.communicate(timeout=SECONDS))
    assert process.returncode == 130 and "--resume" in said
    mesp(*train("first", "--resume"))
    assert device_json(mesp)["end"]["status"] == "done"


def test_a_kernel_that_does_not_tell_anonymous_memory(tmp_path: Path) -> None:
    said = {"status": "Name:\tapp\nVmRSS:\t 9 kB\n", "meminfo": "MemTotal: 9 kB\n", "frequencies": ""}
    assert outside_kernel(said)["footprint_bytes"] is None


def test_a_command_without_a_run_is_refused(mesp: Harness, phone: Phone) -> None:
    assert "trains nothing" in mesp("status", "--tell", "stop", status=2)
    process = mesp.start(*train(steps=100))
    wait(lambda: len(logged(mesp)) > 10, "some steps")
    assert "was told to stop" in mesp("status", "--tell", "stop")
    process.communicate(timeout=SECONDS)


# --- Ctrl-C -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "status", "end"),
    [
        ("s", 130, "interrupted"),
        pytest.param("l", 130, "detached", marks=pytest.mark.thorough),
        pytest.param("", 0, "done", marks=pytest.mark.thorough),
    ],
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


def test_log_pull_and_clean(mesp: Harness, phone: Phone) -> None:
    mesp(*train(steps=5))
    assert '"event":"step"' in mesp("status", "first", "--log")
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


# --- The app's own core -----------------------------------------------------------------------------------------------


def test_losses_on_the_phone_are_those_of_the_host(mesp: Harness, real: Phone) -> None:
    settings = json.loads((CASES / "runs" / "llama-sgd" / "settings.json").read_text())
    options = ("--steps", settings["steps"], "--optimizer", "sgd", "--lr", settings["lr"])
    mesp("run", BUNDLE, "--data", DATA, "-o", "first", *options)
    losses = [
        [json.loads(line)["loss"] for line in (run / "steps.jsonl").open()]
        for run in (CASES / "runs" / "llama-sgd" / "host", mesp.folder / "first")
    ]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5) and len(losses[1]) == 20


def test_a_run_that_fails_on_the_phone(mesp: Harness, real: Phone) -> None:
    (real.files / "bundles" / "broken").mkdir(parents=True)
    said = mesp("run", "broken", "--on-phone", "--data", DATA, "-o", "first", status=1)
    assert "mesp device: first:" in said and "manifest.json" in said
    assert device_json(mesp)["end"]["status"] == "failed"
