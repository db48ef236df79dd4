"""A fleet's project: what is written is what Flower takes, and what is read is understood or refused."""

from pathlib import Path

import pytest
from flwr.cli.build import build_fab_from_disk
from flwr.cli.config_utils import load_and_validate

from mesp.command_line.parser import main
from mesp.runtime.errors import UsageError
from mesp.runtime.fleet.launch import read_project
from mesp.runtime.fleet.settings import FleetSettings, NodeSettings, read_clients

from .desk import rows


def files(folder: Path, *names: str) -> list[Path]:
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(rows(1))
    return [folder / name for name in names]


def test_a_new_project_is_one_of_flowers_and_of_ours(tmp_path: Path, qwen2_fp32: Path) -> None:
    data = files(tmp_path, "anna.jsonl", "ben.jsonl", "more/anna.jsonl")
    project = tmp_path / "desk"
    words = ["fleet", "new", str(qwen2_fp32), "--data", *map(str, data), "--eval-split", "0.2", "-o", str(project)]
    assert main(words) == 0
    config, warnings = load_and_validate(project / "pyproject.toml")
    assert not warnings and config["tool"]["flwr"]["app"]["components"]["clientapp"] == "desk.client_app:app"
    assert build_fab_from_disk(project)
    settings = read_project(project, {"rounds": 7, "train.lr": 0.5}).settings
    assert (settings.rounds, settings.train["lr"], settings.train["steps"]) == (7, 0.5, 20)
    assert settings.start_clients == 3 and settings.output == tmp_path / "desk-run"
    assert settings.clients
    listed = read_clients(settings.clients)
    assert [client.name for client in listed] == ["anna-1", "ben", "anna-3"]
    assert [client.data for client in listed] == data and listed[0].eval_split == 0.2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["new", "BUNDLE", "-o", "My-Fleet"], "My-Fleet cannot be an app's name"),
        (["new", "BUNDLE", "-o", "my_fleet"], "my_fleet cannot be an app's name"),
        (["new", "BUNDLE", "--data", "none.txt", "-o", "desk"], "There is no file none.txt"),
        (["new", "nowhere", "-o", "desk"], "nowhere is not a bundle"),
        (["run", "nowhere"], "nowhere is not the project of a fleet"),
        (["run", "there", "--set", "rounds"], "--set rounds is not NAME=VALUE"),
        (["run", "there", "--set", "strategy.eta=1"], "has no strategy.eta to be replaced"),
        (["run", "there", "--set", "rounds=0"], "rounds is 0, but must be"),
        (["run", "there", "--root-certificates", "ca.crt"], "are of a SuperLink"),
        (
            ["run", "there", "--superlink", "127.0.0.1:1", "--root-certificates", "ca.crt"],
            "There is no certificate ca.crt",
        ),
        (["report", "there"], "there is not a fleet's folder"),
    ],
)
def test_what_cannot_be_is_said(
    tmp_path: Path,
    qwen2_fp32: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["fleet", "new", str(qwen2_fp32), "-o", "there"]) == 0
    assert main(["fleet", *[str(qwen2_fp32) if word == "BUNDLE" else word for word in words]]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "names no data"),
        ({"data": "a.txt", "epochs": 3}, "names that are none of a client's: epochs = 3"),
        ({"data": "a.txt", "eval-split": 2.0}, "--eval-split 2.0 must be between 0 and 1"),
        ({"data": "a.txt", "threads": 0}, "threads is 0, but must be"),
    ],
)
def test_a_node_is_understood_or_refused(given: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        NodeSettings.of(given, "The node's configuration", "anna")


@pytest.mark.parametrize(
    ("text", "said"), [("", "has no client"), ("clients = 3", "has no client"), ("[", "is not TOML")]
)
def test_a_file_of_clients_is_understood_or_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "clients.toml").write_text(text)
    with pytest.raises(UsageError, match=said):
        read_clients(tmp_path / "clients.toml")


def test_every_setting_of_the_template_is_known() -> None:
    from mesp.runtime.fleet import project

    assert FleetSettings.of({}).privacy.mode == "none"
    for name in ("start-clients", "min-clients", "wait-seconds", "round-seconds", "resume", "adapter"):
        assert f"\n{name} = " in project._PYPROJECT
