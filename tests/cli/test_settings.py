import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from arlon_cli.cli.app import run
from arlon_cli.cli.settings import settings_path


@pytest.fixture
def config() -> Path:
    path = settings_path()
    path.parent.mkdir()
    return path


def plan(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    assert run(["generate", "a hill", "--frames", "9", "--dry-run", "--json", "-q", *arguments]) == 0
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


def test_the_flag_wins_then_the_environment_then_the_file(
    tiny_checkpoint: Path,
    config: Path,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (here / "out").mkdir()
    config.write_text(
        f"model = '{tiny_checkpoint}'\nsteps = 3\nguidance = 2\noutput = 'out'\ndtype = 'float32'\ndevice = 'cpu'\n"
    )
    found = plan(capsys)
    assert (found["num_steps"], found["guidance_scale"], found["path"]) == (3, 2.0, "out/a-hill-0.mp4")
    monkeypatch.setenv("ARLON_STEPS", "4")
    assert plan(capsys)["num_steps"] == 4
    found = plan(capsys, "--steps", "5", "-o", "clip.mp4")
    assert (found["num_steps"], found["path"]) == (5, "clip.mp4")


def test_the_environment_alone(
    tiny_checkpoint: Path, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ARLON_MODEL", str(tiny_checkpoint))
    monkeypatch.setenv("ARLON_DTYPE", "bfloat16")
    assert plan(capsys)["dtype"] == "bfloat16"
    monkeypatch.setenv("ARLON_STEPS", "many")
    assert run(["generate", "a hill"]) == 2
    assert "ARLON_STEPS" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("colour = 'red'", "config.toml: unknown key 'colour'; known are model,"),
        ("steps = 'many'", "config.toml: steps is 'many', which is not a whole number"),
        ("steps = true", "config.toml: steps is True, which is not a whole number"),
        ("steps = 0", "config.toml: steps is 0; it lies between 1"),
        ("[generate]\nsteps = 3", "config.toml: unknown key 'generate'"),
        ("steps = ", "config.toml is not valid TOML"),
        ("steps = 1\nsteps = 2", "config.toml is not valid TOML"),
        ("guidance = nan", "config.toml: guidance is nan"),
        ("output = 'nowhere'", "nowhere is neither a folder"),
        ("model = 'dragon'", "There are no weights for 'dragon'"),
        ("a = " + "[" * 20_000, "config.toml is not valid TOML"),
    ],
    ids=lambda text: text[:30],
)
def test_a_wrong_file_is_named(
    text: str, message: str, tiny_checkpoint: Path, config: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text(text)
    model = [] if "model" in text else ["--model", str(tiny_checkpoint)]
    assert run(["generate", "a hill", *model]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1


def test_help_works_with_a_wrong_file(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_bytes(b"\xff")
    assert run(["--help"]) == 0
    assert run(["cache", "path"]) == 2
    assert str(config) in capsys.readouterr().err


def test_the_shell_completes() -> None:
    def complete(line: str) -> str:
        words = line.split(" ")
        environment = os.environ | {
            "_ARLON_COMPLETE": "complete_bash",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(words) - 1),
        }
        code = "from arlon_cli.cli.app import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
        )
        return done.stdout

    assert "storyboard" in complete("arlon sto").split()
    assert {"--seed", "--seconds"} <= set(complete("arlon generate --se").split())
