"""The phone's clock."""

import time
from datetime import datetime

from .state import State


def now(state: State) -> float:
    """Seconds since 1970, as the phone has them."""
    skew: float = state.read()["skew"]
    return time.time() + skew


def stamp(seconds: float) -> str:
    """As dumpsys writes it."""
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
