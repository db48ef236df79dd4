"""Why processes of the app ended, as Android's ApplicationExitInfo has it (since Android 11)."""

import re
from typing import Any

from . import clock
from .state import PACKAGE, State

REASONS = {
    "UNKNOWN": (0, "UNKNOWN"),
    "EXIT_SELF": (1, "EXIT_SELF"),
    "SIGNALED": (2, "SIGNALED"),
    "LOW_MEMORY": (3, "LOW_MEMORY"),
    "CRASH": (4, "APP CRASH(EXCEPTION)"),
    "CRASH_NATIVE": (5, "APP CRASH(NATIVE)"),
    "ANR": (6, "ANR"),
    "EXCESSIVE_RESOURCE_USAGE": (9, "EXCESSIVE RESOURCE USAGE"),
    "USER_REQUESTED": (10, "USER REQUESTED"),
    "USER_STOPPED": (11, "USER STOPPED"),
    "DEPENDENCY_DIED": (12, "DEPENDENCY DIED"),
    "OTHER": (13, "OTHER KILLS BY SYSTEM"),
}
SUBREASONS = {0: "UNKNOWN", 21: "FORCE STOP"}
_NAMED = r"\((?:[^()]|\([^()]*\))*\)"


def record(now: dict[str, Any], when: float, pid: int, rss_kb: int, status: int) -> None:
    """Adds an exit to a state that is being changed: for the reason that was given for it, or for what the process itself came to."""
    given = now["ending"] or {"reason": "SIGNALED" if status < 0 else "EXIT_SELF"}
    ended = {"reason": "UNKNOWN", "subreason": 0, "status": abs(status), "description": None, **given}
    now["exits"].insert(0, {**ended, "timestamp": clock.stamp(when), "pid": pid, "rss_kb": rss_kb})
    now["ending"] = None


def listed(state: State) -> str:
    """In the form of the profile's own first entry, since Android's versions differ in it. A profile without one is of Android 10."""
    head, *entries = re.split(r"(?m)^(?=\s*ApplicationExitInfo #\d+:)", state.text("exit-info"))
    if not entries:
        return "Bad activity command, or no activities match: exit-info\n"
    ended = state.read()["exits"]
    if not ended:
        return "ACTIVITY MANAGER PROCESS EXIT INFO (dumpsys activity exit-info)\n"
    head = re.sub(r"package: \S+", f"package: {PACKAGE}", head)
    return head + "".join(_entry(entries[0], number, item) for number, item in enumerate(ended))


def _entry(form: str, number: int, ended: dict[str, Any]) -> str:
    reason, name = REASONS[ended["reason"]]
    megabytes = f"{max(1, ended['rss_kb'] // 1024)}MB"
    fields = {
        r"#\d+:": f"#{number}:",
        r"timestamp=\S+ \S+": f"timestamp={ended['timestamp']}",
        r"\bpid=\d+": f"pid={ended['pid']}",
        r"process=\S+": f"process={PACKAGE}",
        rf"\breason=\d+ {_NAMED}": f"reason={reason} ({name})",
        rf"subreason=\d+ {_NAMED}": f"subreason={ended['subreason']} ({SUBREASONS[ended['subreason']]})",
        r"status=\d+": f"status={ended['status']}",
        r"pss=\S+": f"pss={megabytes}",
        r"rss=\S+": f"rss={megabytes}",
        r"description=.*? (?=state=)": f"description={ended['description'] or 'null'} ",
    }
    for pattern, value in fields.items():
        form = re.sub(pattern, value.replace("\\", r"\\"), form, count=1)  # a replacement's backslashes are not text
    return form
