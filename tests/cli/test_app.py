from pathlib import Path

import pytest

from arlon_cli.cli import generate
from arlon_cli.cli.app import run


def one_line(captured: pytest.CaptureFixture[str]) -> str:
    """The error, which is one line on stderr with nothing on stdout."""
    out, err = captured.readouterr()
    assert out == ""
    assert err.startswith("Error: ")
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generate"], "Missing argument"),
        (["generate", ""], "prompt is empty"),
        (["generate", " \n "], "prompt is empty"),
        (["generate", "a hill", "--frames", "0"], "number of frames is 0"),
        (["generate", "a hill", "--frames", "-5"], "number of frames is -5"),
        (["generate", "a hill", "--frames", "many"], "--frames"),
        (["generate", "a hill", "--frames", "99999999999"], "number of frames"),
        (["generate", "a hill", "--frames", "9", "--seconds", "2"], "either"),
        (["generate", "a hill", "--seconds", "nan"], "seconds"),
        (["generate", "a hill", "--steps", "0"], "--steps is 0"),
        (["generate", "a hill", "--seed", "-1"], "--seed is -1"),
        (["generate", "a hill", "--seed", str(2**70)], "--seed"),
        (["generate", "a hill", "--guidance", "nan"], "--guidance is nan"),
        (["generate", "a hill", "--guidance", "inf"], "--guidance is inf"),
        (["generate", "a hill", "--device", "abacus"], "no device 'abacus'"),
        (["generate", "a hill", "--dtype", "float3"], "float3"),
        (["generate", "a hill", "-o", "clip.avi"], ".mp4"),
        (["generate", "a hill", "-o", "nowhere/clip.mp4"], "no folder nowhere"),
        (["generate", "a hill", "--colour", "red"], "--colour"),
        (["storyboard", "nothing.yaml"], "Could not read nothing.yaml"),
        (["storyboard"], "Missing argument"),
        (["info", "nothing.mp4"], "no file nothing.mp4"),
        (["models", "show", "dragon"], "dragon"),
        (["cache", "prune", "--size", "much"], "much"),
        (["train", "diorama", "-o", "run", "--minutes", "nan"], "--minutes is nan"),
        (["train", "diorama", "-o", "run", "--minutes", "-3"], "--minutes is -3"),
        (["paint"], "paint"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else None,
)
def test_wrong_use_is_one_line_and_2(
    arguments: list[str],
    message: str,
    tiny_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    if arguments[0] in ("generate", "storyboard"):
        arguments = [arguments[0], "--model", str(tiny_checkpoint), *arguments[1:]]
    assert run(arguments) == 2
    assert message in one_line(capsys)
    assert not list(tmp_path.rglob("*.mp4"))


def test_missing_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["generate", "a hill", "--model", "dragon"]) == 2
    assert "There are no weights for 'dragon'" in one_line(capsys)
    assert run(["generate", "a hill", "--model", str(tmp_path)]) == 2
    assert "is no checkpoint" in one_line(capsys)


def test_unexpected_errors_are_one_line_or_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*arguments: object) -> None:
        raise ZeroDivisionError("no\nreason")

    monkeypatch.setattr(generate.options, "check_sampling", fail)
    assert run(["generate", "a hill"]) == 1
    assert "ZeroDivisionError: no reason" in one_line(capsys)
    assert run(["generate", "a hill", "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err
    assert run(["--debug", "generate", "a hill"]) == 1
    assert "Traceback" in capsys.readouterr().err
    monkeypatch.setenv("ARLON_DEBUG", "1")
    assert run(["generate", "a hill"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_no_arguments_show_help(capsys: pytest.CaptureFixture[str]) -> None:
    run([])
    assert "generate" in "".join(capsys.readouterr())


@pytest.mark.parametrize("command", ["generate", "storyboard", "batch", "info", "models", "cache", "train"])
def test_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--help"]) == 0
    assert "Usage" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("arlon ")
