"""What is refused, is refused before anything heavy is loaded: known by what is imported, not by the time that it takes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

HEAVY = ("torch", "executorch", "transformers", "peft", "numpy", "matplotlib", "huggingface_hub", "gguf")
REFUSED = {
    "try, no checkpoint": "try absent text.txt -o new",
    "try, no data": "try absent absent.txt -o new",
    "try, output exists": "try absent text.txt -o there",
    "export, no checkpoint": "export absent -o new",
    "export, no GGUF file": "export absent.gguf -o new",
    "export, no model in it": "export empty -o new",
    "export, output exists": "export absent -o there",
    "export, rank": "export absent -o new --rank 0",
    "export, one file of a model": "export there/config.json -o new",
    "export, no whole GGUF file": "export text.gguf -o new",
    "export, another architecture": "export gemma -o new",
    "export, a quantized model": "export fp8 -o new",
    "export, a pointer": "export pointer -o new",
    "plan, no checkpoint": "plan absent",
    "plan, budget": "plan absent --budget-mb -1",
    "verify, no bundle": "verify absent",
    "inspect, no bundle": "inspect absent",
    "train, no bundle": "train absent --data text.txt -o new",
    "train, no data": "train BUNDLE --data absent.txt -o new",
    "train, no held-out data": "train BUNDLE --data text.txt --eval-data absent.txt -o new",
    "train, no adapter": "train BUNDLE --data text.txt --adapter absent -o new",
    "train, output exists": "train BUNDLE --data text.txt -o there",
    "train, nothing to resume": "train --resume new",
    "train, no run folder": "train BUNDLE --data text.txt",
    "train, learning rate": "train BUNDLE --data text.txt -o new --lr nan",
    "report, no run": "report absent",
    "merge, no model": "merge absent ADAPTER -o new",
    "merge, no adapter": "merge BUNDLE absent -o new",
    "merge, output exists": "merge BUNDLE ADAPTER -o there",
    "generate, no model": "generate absent --prompt x",
    "generate, no adapter": "generate BUNDLE --adapter absent --prompt x",
    "generate, options": "generate BUNDLE --prompt x --max-new-tokens 0",
    "bench, no table": "bench absent.toml -o new",
    "device run, no bundle": "device run absent --data text.txt -o new",
    "device run, no data": "device run BUNDLE --data absent.txt -o new",
    "device run, on the phone, no data": "device run name --on-phone --data absent.txt -o new",
    "device run, nothing to send": "device run absent --send-only",
    "no such option": "train BUNDLE --data text.txt -o new --learning-rate 1",
    "no such command": "finetune",
}
HELP = {"help": "--help", "version": "--version", "train's help": "train --help", "device's help": "device run --help"}
SCRIPT = """
import json, sys
from mesp.command_line.parser import main
for line in sys.stdin:
    try:
        status = main(json.loads(line))
    except SystemExit as end:
        status = end.code
    print("ANSWER", json.dumps([status, sorted(set(sys.argv[1:]) & sys.modules.keys())]))
"""


def test_what_is_wrong_is_refused_before_anything_heavy_is_loaded(qwen2_fp32: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "letter.txt").write_text("")
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("to be or not to be")
    (tmp_path / "text.gguf").write_text("GGUF")
    (tmp_path / "there" / "config.json").touch()
    configurations = {
        "gemma": '{"model_type": "gemma3"}',
        "fp8": '{"model_type": "llama", "quantization_config": {"quant_method": "fp8"}}',
        "pointer": "version https://git-lfs.github.com/spec/v1",
    }
    for name, text in configurations.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(text)
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 4, "lora_alpha": 8}')
    places = {"BUNDLE": str(qwen2_fp32), "ADAPTER": str(adapter)}
    commands = {**REFUSED, **HELP}
    lines = [json.dumps([places.get(word, word) for word in text.split()]) for text in commands.values()]
    environment = {**os.environ, "PATH": ""}  # no adb
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT, *HEAVY],
        input="\n".join(lines), cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    found = [json.loads(line[7:]) for line in process.stdout.splitlines() if line.startswith("ANSWER ")]
    expected: dict[str, list[Any]] = {name: [0 if name in HELP else 2, []] for name in commands}
    assert dict(zip(commands, found, strict=True)) == expected, process.stderr
    assert "Traceback" not in process.stderr
    assert not (tmp_path / "new").exists()
