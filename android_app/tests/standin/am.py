"""am: starts the app's service and activity, and ends its process."""

from collections.abc import Callable

from .app import App
from .commands import fail
from .state import PACKAGE, State

START = {"start-foreground-service", "startforegroundservice", "start-service", "startservice"}
EXTRAS: dict[str, Callable[[str], object]] = {
    "-e": str,
    "--es": str,
    "--ei": int,
    "--ez": lambda word: word.lower() in ("true", "t", "1"),
}


def am(state: State, arguments: list[str]) -> int:
    verb, *more = arguments or [""]
    if verb == "force-stop":
        if more[-1:] == [PACKAGE]:
            App(state).force_stop()
        return 0
    intent = _intent(more)
    component = str(intent["component"])
    there = component.startswith(f"{PACKAGE}/") and state.read()["installed"]
    extras = " (has extras)" if intent["extras"] else ""
    action = f"act={intent['action']} " if intent["action"] else ""
    shown = f"Intent {{ {action}cmp={component}{extras} }}"
    if verb in START:
        print(f"Starting service: {shown}", flush=True)
        if not there or not component.endswith("TrainService"):
            return fail("Error: Not found; no service started.", 255)
        App(state).command(intent)
        return 0
    if verb in ("start", "start-activity"):
        print(f"Starting: {shown}", flush=True)
        if not there:
            return fail(f"Error type 3\nError: Activity class {{{component}}} does not exist.")
        state.external.mkdir(parents=True, exist_ok=True)  # by getExternalFilesDir
        return 0
    return fail(f"Unknown command: {verb}", 255)


def _intent(words: list[str]) -> dict[str, object]:
    extras: dict[str, object] = {}
    intent: dict[str, object] = {"action": None, "component": None, "extras": extras}
    rest = iter(words)
    for word in rest:
        if word == "-a":
            intent["action"] = next(rest)
        elif word == "-n":
            intent["component"] = next(rest)
        elif word in EXTRAS:
            name = next(rest)  # before its value
            extras[name] = EXTRAS[word](next(rest))
        elif word in ("--user", "-f"):
            next(rest)
    return intent
