"""Flower's own processes: a simulation by one command, with phones in it; and a server and nodes with TLS and authentication, on loopback."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from mesp.runtime.fleet.folder import FleetFolder
from mesp.runtime.fleet.launch import environment, free_port, program

from .desk import clients, rows
from .phones import BUNDLE, DATA, Phone

MESP = (sys.executable, "-c", "import sys; from mesp.command_line.parser import main; sys.exit(main())")
SECONDS = 400


def mesp(*words: object, cwd: Path, status: int = 0) -> str:
    done = subprocess.run(
        [*MESP, *map(str, words)], cwd=cwd, capture_output=True, text=True, timeout=SECONDS, stdin=subprocess.DEVNULL
    )
    assert done.returncode == status, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout + done.stderr


def test_two_phones_and_this_machine_by_one_command(tmp_path: Path, first: Phone, second: Phone) -> None:
    data = [tmp_path / f"{name}.jsonl" for name in ("one", "two", "host")]
    for place, file in enumerate(data):
        file.write_text("".join(DATA.read_text().splitlines(keepends=True)[place::2]))
    mesp("fleet", "new", BUNDLE, "--data", *data, "-o", "desk", cwd=tmp_path)
    listed = tmp_path / "desk" / "clients.toml"
    text = listed.read_text()
    for name, phone in (("one", first), ("two", second)):
        text = text.replace(f'[clients."{name}"]', f'[clients."{name}"]\nphone = "{phone.serial}"')
    listed.write_text(text)
    said = mesp("fleet", "run", "desk", "--set", "rounds=1", "--set", "train.steps=2", cwd=tmp_path)
    assert "Adapter" in said and "report.html" in said
    (_, round_) = FleetFolder(tmp_path / "desk-run").rounds()
    assert [part.reason for part in round_.clients] == [None] * 3
    assert [part.where.partition(" ")[0] for part in round_.clients].count("phone") == 2
    assert (tmp_path / "desk-run" / "adapter" / "adapter_model.safetensors").is_file()
    assert "has a fleet already" in mesp("fleet", "run", "desk", cwd=tmp_path, status=2)
    assert "desk-run/report.html" in mesp("fleet", "report", "desk-run", cwd=tmp_path)


def wait(until: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not until():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.2)


class Processes:
    """Flower's programs, each with a log of its own, ended with all that they have started."""

    def __init__(self, folder: Path, stack: ExitStack):
        self._folder, self._stack = folder, stack
        self.environment = environment(folder / "flower")
        (folder / "flower").mkdir()

    def start(self, name: str, *words: object) -> Path:
        log = self._folder / f"{name}.log"
        file = self._stack.enter_context(log.open("w"))
        process = subprocess.Popen(
            [program(str(words[0])), *map(str, words[1:])],
            cwd=self._folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._stack.callback(self._end, process)
        return log

    def _end(self, process: "subprocess.Popen[bytes]") -> None:
        for sent in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(process.pid, sent)
                process.wait(10)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue

    def run(self, *words: object) -> str:
        done = subprocess.run(
            [program(str(words[0])), *map(str, words[1:])],
            cwd=self._folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def certificates(folder: Path) -> None:
    """As the page says: an authority of one's own, and a certificate for the server's address."""

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    rsa = ("-newkey", "rsa:2048", "-nodes")
    openssl("req", "-x509", *rsa, "-days", "365", "-subj", "/CN=fleet", "-keyout", "ca.key", "-out", "ca.crt")
    openssl("req", *rsa, "-subj", "/CN=server", "-keyout", "server.key", "-out", "server.csr")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    own = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "365", "-extfile", "names")
    openssl("x509", "-req", "-in", "server.csr", *own, "-out", "server.pem")


def key(folder: Path, name: str) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-b", "384", "-N", "", "-f", str(folder / name)], check=True)
    return folder / name


def test_a_server_and_nodes_with_tls_and_authentication(tmp_path: Path, qwen2_fp32: Path) -> None:
    certificates(tmp_path)
    port, nodes = free_port(), clients(tmp_path, [rows(1), rows(2)])
    with ExitStack() as stack:
        processes = Processes(tmp_path, stack)
        server = processes.start(
            "server",
            *("flower-superlink", "--ssl-ca-certfile", "ca.crt", "--ssl-certfile", "server.pem"),
            *("--ssl-keyfile", "server.key", "--enable-supernode-auth", "--host", "127.0.0.1", "--port", port),
        )
        wait(lambda: "Application startup complete" in server.read_text(), "the server")
        connection = f'address = "127.0.0.1:{port}"\nroot-certificates = "{tmp_path / "ca.crt"}"\n'
        (tmp_path / "flower" / "config.toml").write_text(
            f'[superlink]\ndefault = "desk"\n\n[superlink.desk]\n{connection}'
        )

        def node(name: str, config: dict[str, Any], register: bool = True) -> Path:
            own = key(tmp_path, name)
            if register:
                assert "registered successfully" in processes.run(
                    "flwr", "supernode", "register", f"{name}.pub", "desk"
                )
            text = " ".join(f'{item}="{value}"' for item, value in config.items())
            return processes.start(
                name,
                *("flower-supernode", "--superlink", f"127.0.0.1:{port}", "--root-certificates", "ca.crt"),
                *("--auth-supernode-private-key", own, "--port", free_port(), "--node-config", text),
            )

        stranger = node("stranger", nodes[0], register=False)
        for item in nodes:
            node(item["name"], {**item, "bundle": str(qwen2_fp32)})
        mesp("fleet", "new", qwen2_fp32, "-o", "desk", cwd=tmp_path)
        given = ("--set", "rounds=1", "--set", "train.steps=2", "--set", "start-clients=2", "--set", "min-clients=2")
        secure = ("--superlink", f"127.0.0.1:{port}", "--root-certificates", tmp_path / "ca.crt")
        mesp("fleet", "run", "desk", *secure, *given, cwd=tmp_path)
        assert "Exit Code" in stranger.read_text()
    (_, round_) = FleetFolder(tmp_path / "desk-run").rounds()
    assert [(part.name, part.reason) for part in round_.clients] == [("client-0", None), ("client-1", None)]
