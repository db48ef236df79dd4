"""Text before and after an adapter: it is transformers' own, the same each time, and nothing else reaches the screen."""

import io
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from mesp.command_line.parser import main
from mesp.export.reference.generate import Completions, generate, show
from mesp.export.reference.merge import merge
from mesp.runtime.engine.bundle import TOKENIZER
from mesp.runtime.errors import UsageError
from mesp.runtime.generation.options import GenerateOptions
from mesp.runtime.report.run_folder import read_run

from .contract import check
from .models import QWEN2, make_model, save_checkpoint
from .test_merge import save_adapter, save_tokenizer
from .test_report import make_run

PROMPT = "To be, or not"
SHORT = GenerateOptions(max_new_tokens=12)
TEMPLATE = (
    "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"
    "{% if messages[0].content == 'forbidden' %}{{ raise_exception('no such system turn') }}{% endif %}[bot]"
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generate") / "Tiny-Qwen2"
    save_checkpoint(folder, **QWEN2)
    save_tokenizer(folder, chat_template=TEMPLATE)
    return folder


@pytest.fixture(scope="module")
def adapter(checkpoint: Path) -> Path:
    return save_adapter(checkpoint.with_name("adapter"), checkpoint, make_model(**QWEN2))


def greedy(folder: Path, prompt: str, tokens: int) -> str:
    """The likeliest token each time, by transformers' forward pass alone."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(prompt, add_special_tokens=False, return_tensors="pt").input_ids
    start = ids.shape[1]
    with torch.inference_mode():
        while ids.shape[1] < start + tokens and ids[0, -1] != tokenizer.eos_token_id:
            ids = torch.cat([ids, model(input_ids=ids).logits[:, -1:].argmax(-1)], 1)
    return str(tokenizer.decode(ids[0, start:], skip_special_tokens=True))


def test_before_is_the_model_and_after_the_model_with_the_adapter(
    checkpoint: Path, adapter: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    said = generate(str(checkpoint), adapter, PROMPT, SHORT)
    captured = capfd.readouterr()
    merge(str(checkpoint), adapter, tmp_path / "merged")
    assert said == Completions(greedy(checkpoint, PROMPT, 12), greedy(tmp_path / "merged", PROMPT, 12))
    assert said.before != said.after
    assert generate(str(checkpoint), None, PROMPT, SHORT) == Completions(said.before, None)
    assert (captured.out, captured.err) == ("", "")


def test_texts_go_into_a_runs_report(checkpoint: Path, adapter: Path, tmp_path: Path) -> None:
    run, line = make_run(tmp_path / "run"), ["generate", str(checkpoint), "--prompt", PROMPT, "--max-new-tokens", "12"]
    assert main([*line, "--adapter", str(adapter), "--into", str(run)]) == 0
    said = generate(str(checkpoint), adapter, PROMPT, SHORT)
    (text,) = read_run(run).texts
    assert (text["prompt"], text["before"], text["after"]) == (PROMPT, said.before, said.after)
    check("text", text)
    assert main([*line, "--into", str(run)]) == 2  # there is no after
    assert main([*line, "--adapter", str(adapter), "--into", str(tmp_path)]) == 2


def test_a_chat_is_written_with_the_tokenizers_template(checkpoint: Path) -> None:
    chat = GenerateOptions(chat=True, system="brief", max_new_tokens=12)
    reference = greedy(checkpoint, f"[system] brief\n[user] {PROMPT}\n[bot]", 12)
    assert generate(str(checkpoint), None, PROMPT, chat).before == reference
    assert reference != greedy(checkpoint, PROMPT, 12)


def test_what_is_drawn_depends_on_the_seed_alone(checkpoint: Path, adapter: Path) -> None:
    def drawn(seed: int, top_p: float = 1.0) -> Completions:
        options = GenerateOptions(max_new_tokens=12, temperature=2.0, top_p=top_p, seed=seed)
        return generate(str(checkpoint), adapter, PROMPT, options)

    assert drawn(1) == drawn(1) != drawn(2)
    assert drawn(1, top_p=1e-6) == generate(str(checkpoint), adapter, PROMPT, SHORT)  # the likeliest alone is left


def test_the_seed_is_the_same_before_and_after(checkpoint: Path, tmp_path: Path) -> None:
    idle = save_adapter(tmp_path / "idle", checkpoint, make_model(**QWEN2), lora_alpha=1e-9)
    said = generate(str(checkpoint), idle, PROMPT, GenerateOptions(max_new_tokens=12, temperature=2.0))
    assert said.before == said.after


def test_a_repetition_penalty_keeps_tokens_from_coming_back(checkpoint: Path) -> None:
    def repeated(penalty: float) -> int:
        options = GenerateOptions(max_new_tokens=30, repetition_penalty=penalty)
        text = generate(str(checkpoint), None, PROMPT, options).before
        return len(text) - len(set(text))

    assert repeated(100.0) < repeated(1.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"system": "brief"}, "--system is a turn of a chat: add --chat"),
        ({"max_new_tokens": 0}, "--max-new-tokens 0 must be a whole number of at least 1"),
        ({"max_new_tokens": "12"}, "--max-new-tokens '12' must be a whole number"),
        ({"temperature": "hot"}, "--temperature 'hot' must be a number"),
        ({"seed": 0.5}, "--seed 0.5 must be a whole number"),
        ({"chat": "yes"}, "--chat 'yes' must be true or false"),
        ({"chat": True, "system": 3}, "--system 3 must be text"),
        ({"max_new_tokens": 60}, "13 tokens and --max-new-tokens 60 are more than the 64"),
        ({"temperature": -1.0}, "--temperature -1.0 must be"),
        ({"temperature": float("nan")}, "--temperature nan must be"),
        ({"temperature": 1.0, "top_p": 0.0}, "--top-p 0.0 must be above 0"),
        ({"top_p": 0.9}, "at --temperature 0 none is drawn"),
        ({"repetition_penalty": 0.0}, "--repetition-penalty 0.0 must be"),
        ({"chat": True, "system": "forbidden"}, "refuses these turns: no such system turn"),
    ],
)
def test_options_that_cannot_be_used_are_refused(checkpoint: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        generate(str(checkpoint), None, PROMPT, GenerateOptions(**options))


def test_what_cannot_be_a_prompt_is_refused(checkpoint: Path, adapter: Path, tmp_path: Path) -> None:
    mute, plain = tmp_path / "mute" / "Tiny-Qwen2", tmp_path / "plain" / "Tiny-Qwen2"
    for folder in (mute, plain):
        save_checkpoint(folder, **QWEN2)
    save_tokenizer(plain)
    with pytest.raises(UsageError, match="The prompt is empty"):
        generate(str(checkpoint), None, "", SHORT)
    with pytest.raises(UsageError, match="has no tokenizer here"):
        generate(str(mute), None, PROMPT, SHORT)
    with pytest.raises(UsageError, match="no chat template.*leave --chat out"):
        generate(str(plain), None, PROMPT, GenerateOptions(chat=True))
    with pytest.raises(UsageError, match="is not a PEFT adapter"):
        generate(str(checkpoint), checkpoint, PROMPT, SHORT)
    other = save_adapter(tmp_path / "other", Path("org/Other-1B"), make_model(**QWEN2))
    with pytest.raises(UsageError, match="adapter of org/Other-1B"):
        generate(str(checkpoint), other, PROMPT, SHORT)
    assert generate(str(checkpoint), other, PROMPT, SHORT, allow_other_base=True).after


def test_a_bundle_needs_a_tokenizer_and_says_what_its_checkpoint_says(qwen2_fp32: Path, tmp_path: Path) -> None:
    bundle = shutil.copytree(qwen2_fp32, tmp_path / "bundle")
    checkpoint = shutil.copytree(qwen2_fp32.parent / "checkpoint", tmp_path / "checkpoint")
    with pytest.raises(UsageError, match="has no tokenizer here"):
        generate(str(bundle), None, PROMPT, SHORT)
    save_tokenizer(checkpoint)
    save_tokenizer(bundle / TOKENIZER)
    assert generate(str(bundle), None, PROMPT, SHORT) == generate(str(checkpoint), None, PROMPT, SHORT)


@pytest.mark.parametrize(("width", "terminal", "beside"), [(120, True, True), (60, True, False), (120, False, False)])
def test_completions_stand_beside_each_other_where_there_is_room(width: int, terminal: bool, beside: bool) -> None:
    screen = io.StringIO()
    show(Console(file=screen, width=width, force_terminal=terminal, no_color=True), Completions("one [b]", "two"))
    lines = screen.getvalue().splitlines()
    assert any("one [b]" in line and "two" in line for line in lines) is beside
    assert any("one [b]" in line for line in lines) and any("two" in line for line in lines)
