"""A configuration file: over the defaults, under the command line, and refused by the name of what is wrong."""

import argparse
import json
from pathlib import Path

import pytest

from mesp.command_line.parser import main
from mesp.command_line.train_options import add_train_options, chosen_settings
from mesp.runtime.errors import UsageError
from mesp.runtime.training.settings import TrainSettings


def chosen(folder: Path, config: str, *options: str) -> TrainSettings:
    parser = argparse.ArgumentParser()
    add_train_options(parser)
    (folder / "run.toml").write_text(config)
    return chosen_settings(parser.parse_args(["--config", str(folder / "run.toml"), *options]))


def test_the_command_line_is_over_the_file_and_the_file_over_the_defaults(tmp_path: Path) -> None:
    config = 'data = "a.txt"\nlr = 1\nepochs = 3\npacking = false\nadapter = "before"\n'
    settings = TrainSettings(Path("a.txt"), lr=1, epochs=3, packing=False, adapter=Path("before"))
    assert chosen(tmp_path, config) == settings
    # What is given may also be a default.
    assert chosen(tmp_path, config, "--data", "b.txt", "--lr", "0.5", "--packing", "--seed", "0") == TrainSettings(
        Path("b.txt"), lr=0.5, epochs=3, adapter=Path("before")
    )


@pytest.mark.parametrize(
    ("config", "options", "expected"),
    [
        ("steps = 10", ("--epochs", "2"), {"epochs": 2}),
        ("epochs = 2", ("--steps", "10"), {"steps": 10}),
        ("eval_split = 0.1", ("--eval-data", "held.txt"), {"eval_data": Path("held.txt")}),
        ('eval_data = "held.txt"', ("--eval-split", "0.5"), {"eval_split": 0.5}),
    ],
)
def test_what_is_given_replaces_the_files_alternative(
    tmp_path: Path, config: str, options: tuple[str, ...], expected: dict[str, int]
) -> None:
    settings = TrainSettings(Path("a.txt"), **expected)  # type: ignore[arg-type]
    assert chosen(tmp_path, f'data = "a.txt"\n{config}\n', *options) == settings


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("step = 5", "run.toml: step is no setting. Did you mean steps?"),
        ("learning_rate = 5", "run.toml: learning_rate is no setting."),
        ("grad-accumulation = 5", "grad-accumulation is no setting. Did you mean grad_accumulation?"),
        ('map = "question=prompt"', "--map question=prompt: question is no key of a row"),
        ("xyz = 5", "xyz is no setting. Settings are data, eval_data,"),
        ("[steps]", "--steps {} must be at least 1"),
        ('steps = "5"', "--steps 5 must be at least 1"),
        ("steps = 1.0", "--steps 1.0 must be at least 1"),
        ("lr = nan", "--lr nan must be a number"),
        ("data = 5", "--data 5 must be a string"),
        ("adapter = []", "--adapter [] must be"),
        ("lr = 1979-05-27", "--lr 1979-05-27 must be a number"),
        ("steps = 5\nepochs = 2", "steps and epochs are two ways to say the same"),
        ("steps: 5", "is not TOML"),
        ("a = " + "[" * 5000, "is not TOML"),
        ("", 'Give the rows to train on: --data FILE, or data = "FILE"'),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_by_name(tmp_path: Path, config: str, message: str) -> None:
    data = "" if config in ("", "data = 5") else 'data = "a.txt"\n'
    with pytest.raises(UsageError) as error:
        chosen(tmp_path, data + config)
    assert message in str(error.value)


def test_no_file_and_no_utf_8_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path, message in ((tmp_path / "absent.toml", "cannot be read"), (tmp_path, "cannot be read")):
        assert main(["train", "bundle", "-o", str(tmp_path / "run"), "--config", str(path)]) == 2
        assert message in capsys.readouterr().err
    (tmp_path / "run.toml").write_bytes(b"\xff")
    assert main(["train", "bundle", "-o", str(tmp_path / "run"), "--config", str(tmp_path / "run.toml")]) == 2
    assert "is not TOML" in capsys.readouterr().err


def test_merged_settings_are_saved_as_those_of_the_run(tmp_path: Path) -> None:
    settings = chosen(tmp_path, 'data = "a.txt"\nsteps = 3\n', "--lr", "0.5")
    assert json.loads(json.dumps(settings.to_json())) == TrainSettings(Path("a.txt"), steps=3, lr=0.5).to_json()
