"""``mesp try``: each part is a command that a person can type, and what it prints can be gone on with."""

import json
import shlex
import shutil
from pathlib import Path

import pytest

from mesp.command_line import try_out
from mesp.command_line.parser import main
from mesp.runtime.contract.run_files import TEXTS
from mesp.runtime.data.opening import Opening, opening_of

from .test_merge import save_tokenizer


def test_a_checkpoint_is_exported_trained_and_heard(
    qwen2_fp32: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All of it in this process; the bundle is one that is there already."""
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text("\nthe quick brown fox\njumps over the lazy dog. " * 9)
    checkpoint = str(qwen2_fp32.parent / "checkpoint")
    ran: list[list[str]] = []

    def run(words: list[str]) -> int:
        ran.append(words)
        if words[0] == "export":
            shutil.copytree(qwen2_fp32, "first/bundle")
            save_tokenizer(Path("first/bundle/tokenizer"))
            return 0
        return main([*words, "--max-new-tokens", "5"] if words[0] == "generate" else words)

    monkeypatch.setattr(try_out, "_run", run)
    assert main(["try", checkpoint, "text.txt", "-o", "first", "--steps", "3", "--seq-len", "12"]) == 0
    assert [words[0] for words in ran] == ["export", "train", "generate"]
    assert ran[0] == ["export", checkpoint, "-o", "first/bundle", "--seq-len", "12"]
    assert ran[2][ran[2].index("--prompt") + 1] == "the quick brown fox"
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    for words in ran:
        assert shlex.join(["mesp", *words]) in lines
    assert "mesp train --resume first/run --steps 30" in lines
    assert len(Path("first/run", TEXTS).read_text().splitlines()) == 1  # before and after, for the report


def test_what_fails_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The real command in a process of its own: the folder is no model."""
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text("to be or not to be")
    Path("model").mkdir()
    Path("model/config.json").write_text('{"model_type": "elephant"}')
    assert main(["try", "model", "text.txt"]) == 2
    assert "This was done" not in capsys.readouterr().out and not Path("try").exists()


def test_a_prompt_is_as_much_of_the_first_line_as_one_reads_at_a_glance(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("\n the quick brown fox jumps over the lazy dog. the quick brown fox jumps\nover")
    assert opening_of(text) == Opening("the quick brown fox jumps over the lazy dog. the quick brown", chat=False)
    chat = tmp_path / "chat.jsonl"
    turns = [("system", "Be brief."), ("user", "Who is there?"), ("assistant", "I am.")]
    chat.write_text(json.dumps({"messages": [{"role": role, "content": content} for role, content in turns]}))
    assert opening_of(chat) == Opening("Who is there?", chat=True)
    chat.write_text('{"q": "Why?", "a": "So."}')
    assert opening_of(chat, "prompt=q,completion=a") == Opening("Why?", chat=False)
    chat.write_text('{"input_ids": [1, 2], "labels": [1, 2]}')
    assert opening_of(chat) is None
