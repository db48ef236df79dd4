"""What adb lists: phones that are connected, and phones that say on the network where they can be connected to.

A phone has a name for each way in which it is connected: on a cable its own serial number; over the network an address with a port, which is
another one each time that wireless debugging is switched on; or the name under which it announces itself, adb-SERIAL-XXXXXX with a " (2)" after
it at times.
"""

import re
from dataclasses import dataclass

NO_DEVICE = (
    "No device is connected. Enable USB debugging on the phone (Settings, Developer options) and connect it, or start an emulator. "
    "Over Wi-Fi: switch Wireless debugging on in the same place, adb pair ADDRESS:PORT once, then adb connect ADDRESS:PORT."
)

WHAT_TO_DO = {
    "unauthorized": "unlock the phone and accept this computer's key on its screen",
    "authorizing": "wait for the phone to answer, or accept this computer's key on its screen",
    "offline": "reconnect the cable, or switch USB debugging off and on again",
    "no permissions": "give your user access to the USB device (on Debian: apt-get install android-sdk-platform-tools-common), and reconnect",
    "recovery": "start Android: adb reboot",
    "sideload": "start Android: adb reboot",
    "bootloader": "start Android: fastboot reboot",
}
_WIRELESS = (
    "switch Wireless debugging off and on again on the phone, and connect to the address that it shows: adb connect"
)
_STATES = (
    "device|offline|unauthorized|authorizing|connecting|recovery|rescue|sideload|bootloader|host|detached|unknown|no device|"
    "no permissions.*"
)
_LISTED = re.compile(rf"(\S.*?)\s+({_STATES})\s*")
_ADDRESS = re.compile(r"\S+:\d+")
_SERVICE = "_adb-tls-connect._tcp"
_ANNOUNCED = re.compile(rf"(\S.*?)\s+{re.escape(_SERVICE)}\.?\s+(\S+:\d+)\s*")


@dataclass(frozen=True)
class Listed:
    """A line of ``adb devices``."""

    serial: str
    state: str

    @property
    def ready(self) -> bool:
        return self.state == "device"

    @property
    def has_address(self) -> bool:
        return _ADDRESS.fullmatch(self.serial) is not None

    @property
    def on_network(self) -> bool:
        return self.has_address or "._adb" in self.serial

    @property
    def way(self) -> int:
        """The ways in which a phone can be connected, the best first: a cable, an announced name, an address whose port changes."""
        return 2 if self.has_address else 1 if self.on_network else 0

    @property
    def what_to_do(self) -> str:
        """For a person whose phone is in this state; empty for one that is ready."""
        if self.ready:
            return ""
        if self.state == "offline" and self.on_network:
            return _WIRELESS
        return next((advice for state, advice in WHAT_TO_DO.items() if self.state.startswith(state)), "reconnect it")


@dataclass(frozen=True)
class Service:
    """A line of ``adb mdns services``: a phone with wireless debugging on."""

    name: str
    address: str

    def is_of(self, serial: str) -> bool:
        """Whether it is the phone with this serial number of its own."""
        return self.name.startswith(f"adb-{serial}-")


def devices(text: str) -> list[Listed]:
    """Reads ``adb devices``. Names may have spaces in them, and some adbs put spaces for the tab."""
    return [Listed(found[1], found[2]) for line in text.splitlines() if (found := _LISTED.fullmatch(line))]


def services(text: str) -> list[Service]:
    """Reads ``adb mdns services``; none for what an adb says that has no such command."""
    return [Service(found[1], found[2]) for line in text.splitlines() if (found := _ANNOUNCED.fullmatch(line))]
