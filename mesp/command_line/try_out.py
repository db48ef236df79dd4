"""``mesp try``: a checkpoint and some data in one go: exported, trained for a few steps, heard before and after. Each part is a command of
its own, shown as it can be typed, so that a person can go on from there."""

import argparse
import shlex
import subprocess
import sys

from .next_steps import generate_words

BUNDLE, RUN = "bundle", "run"


def run_try(args: argparse.Namespace) -> int:
    """mesp try"""
    from mesp.export.model.checkpoint import find_checkpoint
    from mesp.runtime.data.opening import opening_of
    from mesp.runtime.data.records import check_file
    from mesp.runtime.files import check_absent

    check_absent(args.output)
    check_file(args.data)
    opening = opening_of(args.data)
    find_checkpoint(args.checkpoint)
    bundle, run = args.output / BUNDLE, args.output / RUN
    export = ["export", args.checkpoint, "-o", str(bundle), "--seq-len", str(args.seq_len)]
    train = ["train", str(bundle), "--data", str(args.data), "--steps", str(args.steps), "-o", str(run)]
    done: list[list[str]] = []
    for words in (export, train):
        if status := _run(words):
            return status
        done.append(words)
    words, status = generate_words(bundle, run, opening), 0
    if words[0] == "generate":
        status = _run(words)  # whatever comes of it, the adapter is there
        done.append(words)
    print("\nThis was done:")
    for words in done:
        print(f"  {_line(words)}")
    print("Go on with:")
    for words in (
        ["train", "--resume", str(run), "--steps", str(10 * args.steps)],
        ["merge", args.checkpoint, str(run / "adapter"), "-o", "MODEL"],
        ["device", "run", str(bundle), "--data", str(args.data), "-o", "PHONE_RUN"],
    ):
        print(f"  {_line(words)}")
    print(f"What the run took and came to: {run / 'report.html'}", flush=True)
    return status


def _line(words: list[str]) -> str:
    return shlex.join(["mesp", *words])


def _run(words: list[str]) -> int:
    """Shows a command and runs it in a process of its own, so that its memory is its own. Ctrl-C is the command's to take."""
    print(f"\n$ {_line(words)}", flush=True)
    process = subprocess.Popen([sys.executable, "-m", "mesp.command_line", *words])
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:  # which a terminal sends the command too
            continue
