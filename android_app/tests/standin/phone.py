"""A phone: what a test makes, sets, breaks and looks into."""

import re
from pathlib import Path
from types import TracebackType

from . import log, shell
from .adbd import Daemon, Service
from .app import App
from .paths import on_this_machine
from .shell_service import ShellService
from .state import State
from .sync_service import SyncService
from .trainers import Trainer, fake

PROFILE = Path(__file__).with_name("profile")
FEATURES = "shell_v2,cmd,stat_v2,fixed_push_mkdir"


class Phone:
    """From ``with`` to its end, a phone at ``serial``; adb has to connect to it first (adb_server.AdbServer.connect).

    Args:
        root: an empty folder, for all that the phone keeps; its path must not need quotes
        profile: a folder of what a phone answers, tests/phones/NAME
        trainer: what the app runs; the pretending one where none is given
        features: of adb's, that the phone has
    """

    def __init__(self, root: Path, profile: Path = PROFILE, trainer: Trainer | None = None, features: str = FEATURES):
        trainer = trainer or fake()
        self.state = State.create(root, profile, trainer=trainer.command, trainer_environment=trainer.environment)
        shell.install_commands(self.state)
        self.app = App(self.state)
        self._services = (ShellService(self.state), SyncService(self.state))
        known = self.state.properties()
        names = ("ro.product.name", "ro.product.model", "ro.product.device")
        self._banner = "device::" + "".join(f"{name}={known.get(name, '')};" for name in names) + f"features={features}"
        self.daemon = Daemon(self._banner, self._service)
        self._ways: list[Daemon] = []
        self.set_property("ro.serialno", f"{self.daemon.port:05d}STANDIN")
        if memory := self.state.text("proc-meminfo"):
            (root / "proc" / "meminfo").write_text(memory)

    def _service(self, name: str) -> Service | None:
        return next((found for service in self._services if (found := service.of(name))), None)

    def __enter__(self) -> "Phone":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the app and every command."""
        for way in (self.daemon, *self._ways):
            way.close()
        self._services[0].close()
        self.app.kill()

    @property
    def serial(self) -> str:
        return f"127.0.0.1:{self.daemon.port}"

    @property
    def own_serial(self) -> str:
        """What the phone itself says that it is, whatever way it is connected."""
        return self.state.properties()["ro.serialno"]

    def another_way(self) -> str:
        """The serial of the same phone by another connection, as by a cable and over the network at once."""
        self._ways.append(Daemon(self._banner, self._service))
        return f"127.0.0.1:{self._ways[-1].port}"

    def change_port(self) -> None:
        """Wireless debugging is switched off and on again: the phone is at another port."""
        self.daemon.close()
        self.daemon = Daemon(self._banner, self._service)

    @property
    def files(self) -> Path:
        """The app's external files, with bundles/, data/ and runs/."""
        return self.state.external

    def place(self, path: str) -> Path:
        """Where a path of the phone is on this machine."""
        return Path(on_this_machine(path, self.state.root))

    # --- What a phone says --------------------------------------------------------------------------------------------

    def set_property(self, name: str, value: str) -> None:
        """Of getprop."""
        with self.state.change() as now:
            now["properties"][name] = value

    def override(self, command: str, output: str, status: int = 0) -> None:
        """What one of the phone's own commands prints for exactly these words, and its exit status."""
        with self.state.change() as now:
            now["overrides"][command] = [output, status]

    def set_text(self, name: str, text: str) -> None:
        """Another text for a file of the profile, as "battery"."""
        with self.state.change() as now:
            now["files"][name] = text

    def set_battery(self, **fields: str | int) -> None:
        """Of `dumpsys battery`, as temperature=455 or AC_powered="true"; fields of other names stay."""
        text = self.state.text("battery")
        for name, value in fields.items():
            text = re.sub(rf"(?m)^(\s*{name.replace('_', ' ')}: ).*$", rf"\g<1>{value}", text)
        self.set_text("battery", text)

    def set_thermal_status(self, status: int) -> None:
        """Android's: 0 is none, 3 is severe."""
        text = self.state.text("thermalservice")
        self.set_text("thermalservice", re.sub(r"(?m)^(\s*Thermal Status: ).*$", rf"\g<1>{status}", text))

    def set_clock_ahead(self, seconds: float) -> None:
        """Of `date` and the log from now on; times of files stay this machine's."""
        self.state.set(skew=seconds)
        shell.add_command(self.state, "date")

    def silence_log(self) -> None:
        """The log takes nothing of the app's any more, as by some vendors."""
        self.state.set(silent=True)

    def switch_log_off(self) -> None:
        """ "Logger buffer sizes: Off" in the developer options: tags that have no level of their own are dropped."""
        self.set_property("persist.log.tag", "S")

    def lose_log(self) -> None:
        """The log has come around: what it had is overwritten."""
        open(log.file_of(self.state), "w").close()

    def refuse(self, command: str, message: str = "Permission denied") -> None:
        """What one of the shell's commands says from now on, and fails; those of the shell itself cannot be refused."""
        shell.refuse_command(self.state, command, f"{command}: {message}")

    def set_debuggable(self, on: bool) -> None:
        """Whether run-as serves the app."""
        self.state.set(debuggable=on)

    # --- What happens to it -------------------------------------------------------------------------------------------

    def install(self) -> None:
        """The app is there, without an APK."""
        self.state.set(installed={"sha256": "0" * 64, "size": 0})
        self.files.mkdir(parents=True, exist_ok=True)

    @property
    def installed_sha256(self) -> str | None:
        """Of the APK that was installed."""
        found = self.state.read()["installed"]
        return found["sha256"] if found else None

    def fail_install(self, failure: str | None) -> None:
        """What is between the brackets of pm's Failure from now on; None for no more failures."""
        self.state.set(install_failure=failure)

    def fill_storage(self, free_bytes: int) -> None:
        """The shared storage and /data/local/tmp take so many bytes more, of adb push and of the shell's cat.

        It is counted, not enforced: other commands, and a trainer, write on.
        """
        self.state.set(free=free_bytes)
        shell.add_command(self.state, "cat")

    def free_storage(self) -> None:
        """Ends fill_storage."""
        (self.state.root / "bin" / "cat").unlink(missing_ok=True)
        self.state.set(free=None)

    def heat(self) -> None:
        """Android finds it severely hot, and the app pauses."""
        self.state.set(hot=True)
        self.set_thermal_status(3)
        self.app.pause("hot", True)

    def cool(self) -> None:
        """Ends heat."""
        self.state.set(hot=False)
        self.set_thermal_status(0)
        self.app.pause("hot", False)

    def unplug(self) -> None:
        """The charger; a run that is to go on only while charging pauses."""
        self.state.set(plugged=False)
        self._charger_changed()
        self.set_battery(USB_powered="false", AC_powered="false", status=3)

    def plug_in(self) -> None:
        """Ends unplug."""
        self.state.set(plugged=True)
        self._charger_changed()
        self.set_battery(USB_powered="true", status=2)

    def _charger_changed(self) -> None:
        now = self.state.read()
        if now["app"]:
            self.app.pause("not_charging", now["app"]["only_while_charging"] and not now["plugged"])
