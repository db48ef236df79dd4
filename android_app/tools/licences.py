"""The licences of everything in the APK, as the text that the app shows."""

import json

from common import ANDROID, ROOT

FOLDER = ANDROID / "licences"
COMPONENTS = FOLDER / "components.json"
TEXTS = {
    "Apache License 2.0": ROOT / "LICENSE",
    "BSD 3-Clause License (ExecuTorch's; the others' differ in the names alone)": FOLDER / "bsd-3-clause.txt",
    "MIT License": FOLDER / "mit.txt",
}
FILES = [COMPONENTS, *TEXTS.values()]


def licences() -> str:
    """A list of what is inside, and the texts of the licences."""
    lines = ["What is in this app, and under which licence", ""]
    for part in json.loads(COMPONENTS.read_text(encoding="utf-8")):
        lines += [part["name"], f"  {part['licence']}, (c) {part['copyright']}", f"  {part['place']}"]
        lines += [f"  {part['url']}"] if part["url"] else []
        lines += [""]
    for title, file in TEXTS.items():
        lines += ["=" * 40, title, "", file.read_text(encoding="utf-8").strip(), ""]
    lines += [
        "BSD 2-Clause: as BSD 3-Clause, without its third condition.",
        "Mozilla Public License 2.0: https://www.mozilla.org/MPL/2.0/; the source is at the address above.",
        "LLVM exceptions: https://llvm.org/LICENSE.txt",
    ]
    return "\n".join(lines) + "\n"
