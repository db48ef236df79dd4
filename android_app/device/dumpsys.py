"""What `dumpsys` says of the battery, the heat, a process's memory, the ends of an app's processes and a package.

All sizes are in bytes and all temperatures in Celsius. A figure that the phone does not give is None.
"""

import re
from dataclasses import dataclass

from .meminfo import MemInfo as MemInfo
from .meminfo import meminfo as meminfo
from .reading import Reader, known
from .reading import Unreadable as Unreadable

# android.os.PowerManager's THERMAL_STATUS_*.
STATUS_NAMES = ("NONE", "LIGHT", "MODERATE", "SEVERE", "CRITICAL", "EMERGENCY", "SHUTDOWN")

# android.os.Temperature's types that are no temperatures: a sensor of unknown type may have any unit (on a Pixel, some are the
# difference of two others), and the battery's current limiter gives volts, amperes and percents.
_NO_TEMPERATURE = {-1, 6, 7, 8}
_CELSIUS = (-49.9, 199.9)  # what a phone can have; what is no number is not between them
_TEMPERATURE = re.compile(r"\s*Temperature\{mValue=([^,]+), mType=(-?[0-9]+), mName=(.*), mStatus=-?[0-9]+\}\s*")
_EXIT = re.compile(r"^\s*ApplicationExitInfo #[0-9]+:\s*$", re.MULTILINE)
_DESCRIPTION = re.compile(r"(?<!\S)description=(.*?)\s+state=(?:empty|[0-9]+ bytes)\s+trace=(\S+)", re.DOTALL)
_SIZE = re.compile(r"([0-9]+)(?:[.,٫]([0-9]{1,2}))?(KB|MB|GB|TB|PB)?")
_SIZE_UNITS = {"": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40, "PB": 1 << 50}


@dataclass(frozen=True)
class Battery:
    """`dumpsys battery`, of all Android versions.

    Args:
        level_percent: of a full charge, 0 to 100
        celsius: Android gives tenths of a degree
        plugged: to AC, USB, a wireless charger or (Android 13 and later) a dock. After `dumpsys battery unplug` or `set` this is
            what was set, not what is.
    """

    level_percent: int | None
    celsius: float | None
    plugged: bool | None


@dataclass(frozen=True)
class Thermal:
    """`dumpsys thermalservice`, of Android 10 and later.

    Args:
        status: 0 to 6, see STATUS_NAMES. None where there is no such service, no such status, or no HAL behind it: it then says 0 at
            any heat.
        celsius: by the sensor's name, which every vendor chooses. Sensors without a temperature are left out.
    """

    status: int | None
    celsius: dict[str, float]


@dataclass(frozen=True)
class Exit:
    """The end of a process, of `dumpsys activity exit-info PACKAGE`, of Android 11 and later.

    Args:
        time: "2026-01-31 09:05:00.123" by the phone's clock, time zone and calendar (a Thai phone may count Buddhist years)
        reason: the name of ApplicationExitInfo's reason, such as LOW_MEMORY, "APP CRASH(NATIVE)" or "USER REQUESTED"
        code: the number of the reason
        subreason: its name, of Android 11's later updates and later versions. None where it is UNKNOWN.
        status: what the process exited with, or the signal that ended it
        importance: ActivityManager's, of 100 (foreground) to 1000 (gone)
        pss_bytes: when Android last sampled it, in two or three digits. None where it never did, which it prints as 0.00.
        rss_bytes: as pss_bytes
        trace: a file on the phone
    """

    time: str
    pid: int
    reason: str
    code: int
    subreason: str | None
    status: int | None
    description: str | None
    importance: int | None
    pss_bytes: int | None
    rss_bytes: int | None
    trace: str | None


@dataclass(frozen=True)
class Package:
    """An installed app, of `dumpsys package PACKAGE`.

    Args:
        primary_abi: None for an app without native code
    """

    version_name: str
    version_code: int
    primary_abi: str | None
    debuggable: bool


def battery(text: str) -> Battery:
    """Reads `dumpsys battery`.

    Raises:
        Unreadable: neither the level nor the temperature nor the chargers are in it.
    """
    reader = Reader("dumpsys battery", text)
    # Vendors add lines of their own ("Capacity level", "mSavedBatteryMaxTemp"), so that names are of whole lines.
    level = reader.find(r"^\s*level: (\S+)\s*$", "level")
    scale = reader.find(r"^\s*scale: (\S+)\s*$", "scale") or 100
    tenths = reader.find(r"^\s*temperature: (\S+)\s*$", "temperature")
    powered = re.findall(r"^\s*(?:AC|USB|Wireless|Dock) powered: (true|false)\s*$", reader.text, re.MULTILINE)
    if level is None and tenths is None and not powered:
        reader.fail("level, temperature and AC powered")
    if reader.search(r"^\s*present: (false)\s*$"):  # then the two are placeholders
        level = tenths = None
    percent = None if level is None else known(level / scale * 100, 0, 100)
    celsius = None if tenths is None else known(tenths / 10, *_CELSIUS)
    return Battery(
        None if percent is None else round(percent),
        celsius,
        "true" in powered if powered else None,
    )


def thermal(text: str) -> Thermal:
    """Reads `dumpsys thermalservice`. Nothing is known where there is no such service, which dumpsys says on standard error.

    Raises:
        Unreadable: it has no thermal status.
    """
    reader = Reader("dumpsys thermalservice", text)
    if not text.strip() or "Can't find service" in text:
        return Thermal(None, {})
    status = reader.find(r"^\s*Thermal Status: (\S+)\s*$", "Thermal Status")
    if status is None:
        reader.fail("Thermal Status: 0 to 6")
    status = known(status, 0, len(STATUS_NAMES) - 1)
    if reader.search(r"^\s*HAL Ready: (false)") and not reader.search(r"^\s*IsStatusOverride: (true)"):
        status = None
    # The cached ones are of the last time that a listener was told: they may be hours old.
    celsius = _temperatures("Current temperatures from HAL:", reader) or _temperatures("Cached temperatures:", reader)
    return Thermal(status, celsius)


def _temperatures(heading: str, reader: Reader) -> dict[str, float]:
    """The temperatures of a section, without the sensors that give none: NaN, 0.0 and -99.9 stand for that."""
    celsius: dict[str, float] = {}
    for line in reader.text.partition(heading)[2].splitlines()[1:]:
        found = _TEMPERATURE.fullmatch(line)
        if found is None:
            break
        try:
            value = float(found[1])
        except ValueError:
            reader.fail(f'a temperature for {found[3]}, not "{found[1]}"')
        if int(found[2]) not in _NO_TEMPERATURE and value != 0 and known(value, *_CELSIUS) is not None:
            celsius.setdefault(found[3], value)
    return celsius


def exits(text: str) -> list[Exit]:
    """Reads `dumpsys activity exit-info PACKAGE`, newest first. Nothing for an Android that has no such command.

    Android keeps the last 16 of a package. In Android 11 and 12 every field has a line of its own, later there are three lines.

    Raises:
        Unreadable: it is neither, or an entry lacks its time, process or reason.
    """
    reader = Reader("dumpsys activity exit-info PACKAGE", text)
    entries = _EXIT.split(reader.text)[1:]
    if not entries and not re.search(r"ACTIVITY MANAGER PROCESS EXIT INFO|Bad activity command|Unknown command", text):
        reader.fail("ACTIVITY MANAGER PROCESS EXIT INFO")
    return sorted((_exit(entry, reader) for entry in entries), key=lambda end: end.time, reverse=True)


def _exit(entry: str, reader: Reader) -> Exit:
    """One entry, whether its fields are parted by spaces or by lines."""

    def field(pattern: str) -> str | None:
        found = re.search(r"(?<!\S)" + pattern, entry)
        return found[1] if found else None

    def figure(name: str) -> int | None:
        value = field(name + r"=(\S+)")
        return None if value is None else reader.whole(value, name)

    time, pid = field(r"timestamp=(\S+ \S+)"), figure("pid")
    code, reason = figure("reason"), field(r"reason=\S+ \((.*?)\)(?=\s+(?:subreason|status)=)")
    if time is None or pid is None or code is None or reason is None:
        reader.fail("timestamp, pid and reason in each ApplicationExitInfo")
    subreason = field(r"subreason=\S+ \((.*?)\)(?=\s+status=)")
    text = _DESCRIPTION.search(entry)
    return Exit(
        time,
        pid,
        reason,
        code,
        None if subreason == "UNKNOWN" else subreason,
        figure("status"),
        text[1] if text and text[1] != "null" else None,
        figure("importance"),
        _size(field(r"pss=(\S+)"), reader),
        _size(field(r"rss=(\S+)"), reader),
        text[2] if text and text[2] != "null" else None,
    )


def _size(figure: str | None, reader: Reader) -> int | None:
    """A size as Android's DebugUtils prints it, "1.7GB": with 1024, never with separators of thousands, so a comma is a decimal one."""
    if figure is None:
        return None
    found = _SIZE.fullmatch(figure)
    if found is None:
        reader.fail(f'a size such as 221MB, not "{figure}"')
    return int(float(f"{found[1]}.{found[2] or 0}") * _SIZE_UNITS[found[3] or ""]) or None


def package(text: str) -> Package | None:
    """Reads `dumpsys package PACKAGE`. None for a package that is not installed.

    Raises:
        Unreadable: the package's version or its flags are not in it.
    """
    reader = Reader("dumpsys package PACKAGE", text)
    start = re.search(r"^\s*Package \[[^\]]+\] \([0-9a-f]+\):", reader.text, re.MULTILINE)
    if start is None and re.search(r"Unable to find package|^(?:Dexopt state|Database versions):", text, re.MULTILINE):
        return None
    # A preloaded app that was updated comes a second time, under "Hidden system packages", as it was.
    reader.text = reader.text[start.start() :] if start else ""
    name, code = reader.search(r"^\s*versionName=(.*)$"), reader.find(r"\bversionCode=(\S+)", "versionCode")
    flags = reader.search(r"^\s*(?:pkgFlags|flags)=\[(.*)\]")
    if name is None or code is None or flags is None:
        reader.fail("versionName, versionCode and flags of the package")
    abi = reader.search(r"^\s*primaryCpuAbi=(\S+)")
    return Package(name.strip(), code, None if abi == "null" else abi, "DEBUGGABLE" in flags.split())
