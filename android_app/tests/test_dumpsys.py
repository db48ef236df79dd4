"""The readers of what Android's own commands say, on what phones of several vendors and versions say (phones/SOURCES.md)."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest

from mesp.device import dumpsys, kernel_files
from mesp.device.reading import Unreadable
from mesp.runtime.errors import MespError

PHONES = Path(__file__).resolve().parent / "phones"
KIB = 1024
WITH_SERVICE = [
    "pixel8-android14",
    "galaxy-a52-android12",
    "mi9-android11",
    "oneplus7pro-android10",
    "emulator-android14-x86_64",
]
ALL = [*WITH_SERVICE, "moto-z-android8"]


def said(phone: str, name: str) -> str:
    return (PHONES / phone / f"{name}.txt").read_text()


def memory(phone: str) -> dumpsys.MemInfo:
    found = dumpsys.meminfo(said(phone, "meminfo"))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("phone", "expected"),
    [
        ("pixel8-android14", dumpsys.Battery(84, 31.2, True)),
        ("galaxy-a52-android12", dumpsys.Battery(41, 38.8, False)),
        ("mi9-android11", dumpsys.Battery(80, 36.4, True)),
        ("oneplus7pro-android10", dumpsys.Battery(100, 29.5, True)),
        ("emulator-android14-x86_64", dumpsys.Battery(100, 25.0, True)),
        ("moto-z-android8", dumpsys.Battery(72, 33.0, True)),
    ],
)
def test_battery(phone: str, expected: dumpsys.Battery) -> None:
    assert dumpsys.battery(said(phone, "battery")) == expected


def test_battery_reads_its_scale_and_what_is_missing() -> None:
    assert dumpsys.battery("  level: 127\n  scale: 255\n") == dumpsys.Battery(50, None, None)
    assert dumpsys.battery("  AC powered: false\n  Dock powered: true\n") == dumpsys.Battery(None, None, True)
    assert dumpsys.battery("  AC powered: true\n  present: false\n  level: 0\n  temperature: 0\n") == dumpsys.Battery(
        None, None, True
    )
    assert dumpsys.battery("  level: 5\n  temperature: -35\n").celsius == -3.5
    assert dumpsys.battery("  Capacity level: -1\n  level: 33\n  mSavedBatteryMaxTemp: 534\n") == dumpsys.Battery(
        33, None, None
    )
    assert dumpsys.battery("  level: ٧٢\r\n  temperature: ۳۳۰\r\n") == dumpsys.Battery(72, 33.0, None)


@pytest.mark.parametrize("tenths", ["-2147483648", "2147483647", "-1000", "-999", "36500"])
@pytest.mark.parametrize("level", ["-1", "-2147483648", "101", "255"])
def test_what_no_battery_can_have_is_unknown(tenths: str, level: str) -> None:
    text = f"  AC powered: true\n  level: {level}\n  scale: 100\n  temperature: {tenths}\n"
    assert dumpsys.battery(text) == dumpsys.Battery(None, None, True)
    assert dumpsys.battery("  level: 50\n  scale: -1\n") == dumpsys.Battery(None, None, None)
    assert dumpsys.battery("  level: 0\n  temperature: -499\n") == dumpsys.Battery(0, -49.9, None)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-3.4028235E38", "-99.9", "36500.0", "0.0", "-2.14748365E9"])
@pytest.mark.parametrize("status", ["-1", "7", "2147483647"])
def test_what_no_sensor_can_have_is_unknown(value: str, status: str) -> None:
    sensor = "Temperature{mValue=%s, mType=0, mName=%s, mStatus=0}\n"
    text = f"Thermal Status: {status}\nCurrent temperatures from HAL:\n{sensor % (value, 'CPU0')}{sensor % ('41.5', 'CPU1')}"
    assert dumpsys.thermal(text) == dumpsys.Thermal(None, {"CPU1": 41.5})


def test_negative_sizes_are_unknown() -> None:
    for blocks in ("1K-blocks", "512-blocks"):
        text = f"Filesystem {blocks} Used Available Use% Mounted on\n/dev/fuse 100 200 -100 200% /sdcard\n"
        assert kernel_files.free_bytes(text) is None
        assert kernel_files.free_bytes(text.replace("-100", "18014398509481984")) is None
    assert kernel_files.free_bytes("Filesystem Size Used Free Blksize\n/sdcard 9.8G 9.9G -102.4M 4096\n") is None
    assert kernel_files.frequencies("0 1804800 4294967295 <unknown> 300000 -1\n") == [1804800, 300000]
    summary = " App Summary\n Pss(KB)\n ------\n Java Heap: 10\n System: -5\n TOTAL: 5 TOTAL SWAP PSS: -1\n"
    text = summary.replace(" Pss(KB)", " " * 30 + "Pss(KB)")
    found = dumpsys.meminfo(text)
    assert found is not None and found.summary_bytes == {"Java Heap": 10 * KIB}
    assert (found.total_pss_bytes, found.total_swap_pss_bytes) == (5 * KIB, None)
    with pytest.raises(Unreadable, match="TOTAL PSS"):
        dumpsys.meminfo(text.replace("TOTAL: 5", "TOTAL: -5"))


@pytest.mark.parametrize(
    ("phone", "status", "celsius"),
    [
        (
            "pixel8-android14",
            1,
            {
                "TPU": 47.0,
                "G3D": 52.5,
                "BIG": 61.25,
                "MID": 58.0,
                "LITTLE": 49.0,
                "cellular-emergency": 36.2,
                "VIRTUAL-SKIN": 39.5,
                "battery": 31.2,
            },
        ),
        ("galaxy-a52-android12", 0, {"AP": 46.3, "BAT": 38.8, "LRP": 36.1, "PA": 41.0}),
        (
            "mi9-android11",
            2,
            {
                "battery": 36.4,
                "cpu0-gold-usr": 71.8,
                "cpu0-silver-usr": 64.1,
                "gpu0-usr": 60.9,
                "mb-therm-monitor": 44.0,
                "usbc-therm-monitor": 33.1,
            },
        ),
        ("oneplus7pro-android10", None, {}),
        ("emulator-android14-x86_64", 0, {}),
        ("moto-z-android8", None, {}),
    ],
)
def test_thermal(phone: str, status: int | None, celsius: dict[str, float]) -> None:
    assert dumpsys.thermal(said(phone, "thermalservice")) == dumpsys.Thermal(status, celsius)


def test_thermal_falls_back_on_cached_temperatures_and_keeps_an_overridden_status() -> None:
    cached = "Cached temperatures:\n\tTemperature{mValue=41.5, mType=3, mName=SKIN, mStatus=1}\nHAL Ready: true\n"
    assert dumpsys.thermal("Thermal Status: 1\n" + cached) == dumpsys.Thermal(1, {"SKIN": 41.5})
    assert dumpsys.thermal("Thermal Status: 1\n" + cached + "Current temperatures from HAL:\n") == dumpsys.Thermal(
        1, {"SKIN": 41.5}
    )
    overridden = "IsStatusOverride: true\nThermal Status: 3\nCached temperatures:\nHAL Ready: false\n"
    assert dumpsys.thermal(overridden) == dumpsys.Thermal(3, {})
    # dumpsys writes "Can't find service" to its standard error.
    assert dumpsys.thermal("") == dumpsys.Thermal(None, {})
    absent = "Cached temperatures:\n\tTemperature{mValue=-99.9, mType=5, mName=PA, mStatus=0}\n"
    assert dumpsys.thermal("Thermal Status: 0\n" + absent).celsius == {}


@pytest.mark.parametrize("phone", [*ALL, "arabic-android14"])
def test_meminfo_is_whole(phone: str) -> None:
    found = memory(phone)
    assert {"Native Heap", "Dalvik Heap", ".so mmap", ".apk mmap", "Unknown"} <= found.pss_bytes.keys()
    assert set(found.summary_bytes) == {
        "Java Heap",
        "Native Heap",
        "Code",
        "Stack",
        "Graphics",
        "Private Other",
        "System",
    }
    # Android counts the swapped share in the total, but not in the classes.
    assert sum(found.pss_bytes.values()) + (found.total_swap_pss_bytes or 0) == found.total_pss_bytes
    assert sum(found.summary_bytes.values()) == found.total_pss_bytes
    assert found.total_rss_bytes is None or found.total_rss_bytes > found.total_pss_bytes


@pytest.mark.parametrize(
    ("phone", "total", "rss", "swap_pss", "native", "heap"),
    [
        ("pixel8-android14", 1620902, 1719808, 2520, 905000, (930000, 881000, 48000)),
        ("arabic-android14", 1620902, 1719808, 2520, 905000, (930000, 881000, 48000)),
        ("galaxy-a52-android12", 1461063, 1544497, 7320, 814500, (840000, 790000, 49000)),
        ("mi9-android11", 793041, 843754, None, 452500, (470000, 440000, 29000)),
        ("oneplus7pro-android10", 407112, None, 2520, 226250, (236000, 220000, 15000)),
        ("emulator-android14-x86_64", 528685, 562297, 0, 301666, (312000, 293000, 18000)),
        ("moto-z-android8", 323394, None, None, 181000, (188000, 176000, 11000)),
    ],
)
def test_meminfo_figures(
    phone: str, total: int, rss: int | None, swap_pss: int | None, native: int, heap: tuple[int, int, int]
) -> None:
    found = memory(phone)
    assert found.total_pss_bytes == total * KIB
    assert found.total_rss_bytes == (None if rss is None else rss * KIB)
    assert found.total_swap_pss_bytes == (None if swap_pss is None else swap_pss * KIB)
    assert found.pss_bytes["Native Heap"] == native * KIB
    heaps = (found.native_heap_size_bytes, found.native_heap_alloc_bytes, found.native_heap_free_bytes)
    assert heaps == tuple(figure * KIB for figure in heap)


def test_meminfo_in_arabic_digits_is_the_same() -> None:
    assert memory("arabic-android14") == memory("pixel8-android14")
    assert any(sign in said("arabic-android14", "meminfo") for sign in "٠١٢٣")


def test_meminfo_of_every_class() -> None:
    found = memory("pixel8-android14")
    assert found.pss_bytes["GL mtrack"] == 3100 * KIB
    assert found.pss_bytes["EGL mtrack"] == 24000 * KIB
    assert found.pss_bytes[".jar mmap"] == 1400 * KIB
    assert found.summary_bytes["Graphics"] == 32300 * KIB
    assert found.summary_bytes["Private Other"] == 3072 * KIB


def test_meminfo_of_the_summary_or_the_table_alone() -> None:
    text = said("pixel8-android14", "meminfo")
    head, summary = text.split(" App Summary")
    only = dumpsys.meminfo(" App Summary" + summary)
    assert only is not None
    assert only.total_pss_bytes == 1620902 * KIB
    assert only.pss_bytes == {} and only.native_heap_size_bytes is None
    table = dumpsys.meminfo(head)
    assert table is not None
    assert (table.total_pss_bytes, table.total_rss_bytes, table.summary_bytes) == (1620902 * KIB, None, {})


def test_meminfo_reads_more_columns_by_their_header() -> None:
    """As `dumpsys meminfo -a PID` says it, and with the word of Android 6."""
    found = dumpsys.meminfo(
        "            Pss      Pss   Shared  Private   Shared  Private  Swapped     Heap     Heap     Heap\n"
        "          Total    Clean    Dirty    Dirty    Clean    Clean    Dirty     Size    Alloc     Free\n"
        "         ------   ------   ------   ------   ------   ------   ------   ------   ------   ------\n"
        "  Native Heap  7,353   0   1624   7304   0   0   0   9368   7139   2228\n"
        "        TOTAL  8,000   0   1624   7304   0   0   0   9368   7139   2228\n"
    )
    assert found is not None
    assert found.pss_bytes == {"Native Heap": 7353 * KIB}
    assert (found.total_pss_bytes, found.native_heap_alloc_bytes) == (8000 * KIB, 7139 * KIB)


@pytest.mark.parametrize("figure", ["7.353", "7353(3)", "7,35", "x"])
def test_meminfo_does_not_guess_a_figure(figure: str) -> None:
    text = said("moto-z-android8", "meminfo")
    with pytest.raises(Unreadable, match="under Pss Total, Private Dirty"):
        dumpsys.meminfo(text.replace("  Native Heap   181000", f"  Native Heap   {figure}"))
    with pytest.raises(Unreadable, match="whole number for TOTAL"):
        dumpsys.meminfo(text.replace("TOTAL:   323394", f"TOTAL:   {figure}"))


def test_meminfo_of_a_process_that_is_gone() -> None:
    assert dumpsys.meminfo("Applications Memory Usage (in Kilobytes):\nNo process found for: 4711\n") is None
    assert dumpsys.meminfo("No process found for: 4711\r\n") is None


def test_exits_of_three_lines() -> None:
    assert dumpsys.exits(said("pixel8-android14", "exit-info")) == [
        dumpsys.Exit(
            time="2026-01-31 09:05:00.123",
            pid=8297,
            reason="LOW_MEMORY",
            code=3,
            subreason=None,
            status=0,
            description=None,
            importance=125,
            pss_bytes=int(1.6 * 2**30),
            rss_bytes=int(1.7 * 2**30),
            trace=None,
        ),
        dumpsys.Exit(
            time="2026-01-31 08:51:10.004",
            pid=8180,
            reason="APP CRASH(NATIVE)",
            code=5,
            subreason=None,
            status=6,
            description="crash",
            importance=100,
            pss_bytes=None,
            rss_bytes=None,
            trace="/data/system/procexitstore/tombstone_x.gz",
        ),
        dumpsys.Exit(
            time="2026-01-30 22:14:48.248",
            pid=8036,
            reason="USER REQUESTED",
            code=10,
            subreason="FORCE STOP",
            status=0,
            description="stop org.mesp.app due to from pid 8396",
            importance=100,
            pss_bytes=221 * 2**20,
            rss_bytes=304 * 2**20,
            trace=None,
        ),
    ]


def test_exits_of_a_line_for_each_field() -> None:
    (anr,) = dumpsys.exits(said("galaxy-a52-android12", "exit-info"))
    assert (anr.time, anr.pid, anr.reason, anr.code, anr.status) == ("2026-01-31 10:20:30.400", 21002, "ANR", 6, 0)
    assert anr.description is not None
    assert anr.description.startswith("user request after error: Input dispatching timed out (d8334d4 org.mesp.app/")
    assert anr.description.endswith("Waited 5001ms for MotionEvent)")
    assert (anr.pss_bytes, anr.trace) == (744 * 2**20, "/data/system/procexitstore/anr_x.gz")
    (cleaned,) = dumpsys.exits(said("mi9-android11", "exit-info"))  # without a subreason
    assert (cleaned.reason, cleaned.code, cleaned.subreason) == ("OTHER KILLS BY SYSTEM", 13, None)
    assert (cleaned.description, cleaned.importance, cleaned.rss_bytes) == ("OneKeyClean", 400, 541 * 2**20)


def test_exits_of_none() -> None:
    assert dumpsys.exits(said("emulator-android14-x86_64", "exit-info")) == []
    assert dumpsys.exits(said("oneplus7pro-android10", "exit-info")) == []
    assert dumpsys.exits(said("moto-z-android8", "exit-info")) == []


def test_exits_in_other_digits_and_with_a_decimal_comma() -> None:
    expected = dumpsys.exits(said("pixel8-android14", "exit-info"))
    assert dumpsys.exits(said("arabic-android14", "exit-info")) == expected[:1]
    assert (
        dumpsys.exits(said("pixel8-android14", "exit-info").replace("1.6GB", "1,6GB").replace("1.7GB", "1,7GB"))
        == expected
    )
    with pytest.raises(Unreadable, match='a size such as 221MB, not "1.617GB"'):
        dumpsys.exits(said("pixel8-android14", "exit-info").replace("1.6GB", "1.617GB"))


def test_exits_are_sorted() -> None:
    text = said("pixel8-android14", "exit-info")
    assert dumpsys.exits(text.replace("2026-01-31 09:05", "2026-01-29 09:05"))[-1].reason == "LOW_MEMORY"


@pytest.mark.parametrize(
    ("phone", "expected"),
    [
        ("pixel8-android14", dumpsys.Package("0.1.0", 1, "arm64-v8a", True)),
        ("galaxy-a52-android12", dumpsys.Package("0.1.0", 1, "arm64-v8a", False)),
        ("mi9-android11", dumpsys.Package("0.2.0", 2, "arm64-v8a", True)),
        ("oneplus7pro-android10", dumpsys.Package("0.1.0", 1, "arm64-v8a", False)),
        ("emulator-android14-x86_64", dumpsys.Package("0.1.0", 1, "x86_64", True)),
        ("moto-z-android8", dumpsys.Package("0.1.0", 1, None, False)),
    ],
)
def test_package(phone: str, expected: dumpsys.Package) -> None:
    assert dumpsys.package(said(phone, "package")) == expected


def test_package_that_is_not_installed_or_preloaded() -> None:
    assert dumpsys.package("Dexopt state:\n  Unable to find package: org.mesp.app\n") is None
    assert dumpsys.package("Unable to find package: org.mesp.app\n") is None
    text = said("pixel8-android14", "package")
    hidden = "Hidden system packages:\n" + said("mi9-android11", "package").split("Packages:\n")[1]
    assert dumpsys.package(text + hidden) == dumpsys.package(text)


@pytest.mark.parametrize(
    ("phone", "model", "sdk", "abi"),
    [
        ("pixel8-android14", "Pixel 8", "34", "arm64-v8a"),
        ("galaxy-a52-android12", "SM-A526B", "31", "arm64-v8a"),
        ("mi9-android11", "MI 9 Transparent Edition", "30", "arm64-v8a"),
        ("oneplus7pro-android10", "GM1913", "29", "arm64-v8a"),
        ("emulator-android14-x86_64", "sdk_gphone64_x86_64", "34", "x86_64"),
        ("moto-z-android8", "XT1650", "26", "arm64-v8a"),
    ],
)
def test_properties(phone: str, model: str, sdk: str, abi: str) -> None:
    found = kernel_files.properties(said(phone, "getprop"))
    assert found["ro.product.model"] == model
    assert found["ro.build.version.sdk"] == sdk
    assert found["ro.product.cpu.abi"] == abi
    assert found["ro.build.version.base_os"] == ""
    assert found["sys.boot_completed"] == "1"
    assert not {"ro.serialno", "ro.boot.serialno"} & found.keys()


def test_properties_span_lines() -> None:
    reboots = "reboot,1732006385\nreboot,factory_reset,1731934106\nreboot,1731933991"
    found = kernel_files.properties(said("pixel8-android14", "getprop"))
    assert found["persist.sys.boot.reason.history"] == reboots
    assert kernel_files.properties("[a]: [one\r\n\r\n[two]]\r\n[b]: []\r\n") == {"a": "one\n\n[two]", "b": ""}


@pytest.mark.parametrize(
    ("phone", "total", "available"),
    [
        ("pixel8-android14", 7680000, 2950000),
        ("galaxy-a52-android12", 5500000, 1900000),
        ("mi9-android11", 5700000, 2300000),
        ("oneplus7pro-android10", 7800000, 3100000),
        ("emulator-android14-x86_64", 4008504, 2400000),
        ("moto-z-android8", 3800000, 1400000),
    ],
)
def test_fields_of_meminfo(phone: str, total: int, available: int) -> None:
    found = kernel_files.fields(said(phone, "meminfo-proc"))
    assert (found["MemTotal"], found["MemAvailable"]) == (total * KIB, available * KIB)
    assert 0 <= found["SwapFree"] <= found["SwapTotal"]
    assert found["Active(anon)"] < found["MemTotal"]
    assert found.get("HugePages_Total", 0) == 0


def test_fields_of_a_process() -> None:
    status = kernel_files.fields(said("galaxy-a52-android12", "status"))
    assert (status["VmRSS"], status["RssAnon"], status["VmSwap"]) == (812000 * KIB, 575000 * KIB, 35200 * KIB)
    assert (status["Threads"], status["Pid"], status["TracerPid"]) == (46, 21002, 0)
    left_out = {"Name", "State", "Umask", "Uid", "Groups", "SigQ", "SigPnd", "SigBlk", "Cpus_allowed", "Mems_allowed"}
    assert not left_out & status.keys()
    rollup = kernel_files.fields(said("galaxy-a52-android12", "smaps_rollup"))
    assert (rollup["Pss"], rollup["SwapPss"], rollup["Private_Dirty"]) == (744000 * KIB, 1190 * KIB, 551900 * KIB)
    assert len(rollup) == 13


def test_fields_of_what_cannot_be_read() -> None:
    assert kernel_files.fields("") == {}
    assert kernel_files.fields("cat: /proc/4711/status: No such file or directory\n") == {}
    assert kernel_files.fields("cat: /proc/1/smaps_rollup: Permission denied\n") == {}


@pytest.mark.parametrize(
    ("phone", "free"),
    [
        ("pixel8-android14", 52900000),
        ("galaxy-a52-android12", 18800000),
        ("mi9-android11", 71800000),
        ("oneplus7pro-android10", 117800000),
        ("emulator-android14-x86_64", 3900000),
        ("moto-z-android8", 22900000),
    ],
)
def test_free_bytes(phone: str, free: int) -> None:
    assert kernel_files.free_bytes(said(phone, "df")) == free * KIB


def test_free_bytes_of_other_tables() -> None:
    header = "Filesystem           1K-blocks      Used Available Use% Mounted on\n"
    assert kernel_files.free_bytes(header + "/dev/block/a-long-name\n   1000  400  600  40% /data\n") == 600 * KIB
    posix = "Filesystem     512-blocks Used Available Capacity Mounted on\n/dev/block/dm-1 1000 400 600 40% /data\n"
    assert kernel_files.free_bytes(posix) == 600 * 512
    toolbox = "Filesystem               Size     Used     Free   Blksize\n-k: No such file or directory\n"
    assert kernel_files.free_bytes(toolbox + "/data                   21.9G    12.1G     9.8G   4096\n") == int(
        9.8 * 2**30
    )
    human = "Filesystem        Size  Used Avail Use% Mounted on\n/dev/block/dm-43   24G   23G  512M  96% /data\n"
    assert kernel_files.free_bytes(human) == 512 * 2**20


READERS: list[tuple[str, Callable[[str], object]]] = [
    ("battery", dumpsys.battery),
    ("thermalservice", dumpsys.thermal),
    ("meminfo", dumpsys.meminfo),
    ("exit-info", dumpsys.exits),
    ("package", dumpsys.package),
    ("getprop", kernel_files.properties),
    ("meminfo-proc", kernel_files.fields),
    ("df", kernel_files.free_bytes),
]


@pytest.mark.parametrize(("name", "read"), READERS)
@pytest.mark.parametrize(
    "text",
    [
        "error: device offline",
        "Permission Denial: can't dump from pid=1, uid=2000 without permission android.permission.DUMP",
        "** SERVICE DUMP TIMEOUT (10000ms) EXPIRED **",
        "[][]]][\n{}: kB\n%%%\n",
        "\x00\x01",
    ],
)
def test_what_is_no_output_is_unreadable(name: str, read: Callable[[str], object], text: str) -> None:
    with pytest.raises(Unreadable, match="was not understood") as failure:
        read(text)
    assert isinstance(failure.value, MespError)
    assert failure.value.text == text
    assert failure.value.exit_status == 1


@pytest.mark.parametrize(
    ("name", "read"), [reader for reader in READERS if reader[0] not in ("thermalservice", "meminfo-proc")]
)
def test_nothing_is_unreadable(name: str, read: Callable[[str], object]) -> None:
    for text in ("", "\n", "Can't find service: x\n"):
        with pytest.raises(Unreadable, match="was not understood: expected"):
            read(text)


@pytest.mark.parametrize(("name", "read"), READERS)
@pytest.mark.parametrize("phone", ALL)
def test_what_is_cut_off_is_read_or_unreadable(phone: str, name: str, read: Callable[[str], object]) -> None:
    """Neither an IndexError nor a ValueError, wherever adb lost the phone."""
    text = said(phone, name)
    for end in range(0, len(text), max(1, len(text) // 150)):
        with contextlib.suppress(Unreadable):
            read(text[:end])


@pytest.mark.parametrize("phone", ALL)
def test_figures_are_plausible(phone: str) -> None:
    battery = dumpsys.battery(said(phone, "battery"))
    assert battery.level_percent is not None and 0 <= battery.level_percent <= 100
    assert battery.celsius is not None and 0 < battery.celsius < 60
    assert all(10 < celsius < 100 for celsius in dumpsys.thermal(said(phone, "thermalservice")).celsius.values())
    found = memory(phone)
    machine = kernel_files.fields(said(phone, "meminfo-proc"))
    assert all(
        0 <= size <= found.total_pss_bytes for size in (*found.pss_bytes.values(), *found.summary_bytes.values())
    )
    assert found.total_pss_bytes < machine["MemTotal"]
    assert found.native_heap_alloc_bytes is not None and found.native_heap_size_bytes is not None
    assert found.native_heap_alloc_bytes < found.native_heap_size_bytes
    for end in dumpsys.exits(said(phone, "exit-info")):
        assert 1 <= end.code <= 16 and 0 < end.pid < 1 << 22 and end.time.startswith("2026-01-")
        assert all(size is None or 1 << 20 < size < machine["MemTotal"] for size in (end.pss_bytes, end.rss_bytes))
    free = kernel_files.free_bytes(said(phone, "df"))
    assert free is not None and 1 << 30 < free < 1 << 40


def test_the_sources_are_named() -> None:
    sources = (PHONES / "SOURCES.md").read_text()
    for phone in sorted(folder.name for folder in PHONES.iterdir() if folder.is_dir()):
        section = sources.split(f"## {phone}\n")[1].split("\n## ")[0]
        for file in sorted((PHONES / phone).iterdir()):
            assert f"`{file.name}`" in section, f"{phone}/{file.name}"
