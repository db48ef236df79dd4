"""What a phone is: what ``mesp device list`` shows, and every run records."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from mesp.runtime.errors import MespError

from . import dumpsys, kernel_files
from .adb import Device
from .reading import Unreadable

T = TypeVar("T")

_COMMANDS = {
    "properties": "getprop",
    "meminfo": "cat /proc/meminfo",
    "storage": "df -k /sdcard/",
    "battery": "dumpsys battery",
    "thermal": "dumpsys thermalservice",
}


@dataclass(frozen=True)
class Phone:
    """A phone's facts; None for what it does not tell."""

    serial: str
    manufacturer: str
    model: str
    android: str
    sdk: int
    abis: list[str]
    memory_bytes: int | None
    available_bytes: int | None
    free_storage_bytes: int | None
    battery_percent: int | None
    battery_celsius: float | None
    plugged: bool | None
    thermal_status: int | None
    not_understood: list[str]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def describe(device: Device) -> Phone:
    """Asks a phone what it is."""
    output = device.patiently(lambda: device.sections(_COMMANDS))
    properties = kernel_files.properties(output["properties"])
    notes: list[str] = []

    def read(parse: Callable[[str], T], name: str) -> T | None:
        """What a phone may have in a form of its own; nothing here depends on it."""
        try:
            return parse(output[name])
        except Unreadable as error:
            notes.append(str(error))
            return None

    memory = read(kernel_files.fields, "meminfo") or {}
    battery, thermal = read(dumpsys.battery, "battery"), read(dumpsys.thermal, "thermal")
    return Phone(
        serial=device.serial,
        manufacturer=properties.get("ro.product.manufacturer", "?"),
        model=properties.get("ro.product.model", "?"),
        android=properties.get("ro.build.version.release", "?"),
        sdk=_sdk(device, properties),
        abis=[abi for abi in properties.get("ro.product.cpu.abilist", "").split(",") if abi],
        memory_bytes=memory.get("MemTotal"),
        available_bytes=memory.get("MemAvailable"),
        free_storage_bytes=read(kernel_files.free_bytes, "storage"),
        battery_percent=battery.level_percent if battery else None,
        battery_celsius=battery.celsius if battery else None,
        plugged=battery.plugged if battery else None,
        thermal_status=thermal.status if thermal else None,
        not_understood=notes,
    )


def _sdk(device: Device, properties: Mapping[str, str]) -> int:
    text = properties.get("ro.build.version.sdk", "")
    if not text.isdecimal():
        raise MespError(
            f"{device.serial} does not say which Android it is (ro.build.version.sdk is {text!r}). Is it an Android device?"
        )
    return int(text)
