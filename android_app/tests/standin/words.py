"""What the app says, from its own resources."""

import re
from pathlib import Path

_FILE = Path(__file__).resolve().parents[2] / "app" / "src" / "main" / "res" / "values" / "strings.xml"


def text(name: str, *values: object) -> str:
    """One of its strings, with its values filled in."""
    found = re.search(rf'<string name="{name}">(.*?)</string>', _FILE.read_text(), re.DOTALL)
    if not found:
        raise KeyError(name)
    whole = found[1].replace('\\"', '"').replace("\\'", "'").replace("&amp;", "&")
    return re.sub(r"%(\d)\$[sd]", lambda match: str(values[int(match[1]) - 1]), whole)
