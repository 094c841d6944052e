import os
from pathlib import Path

import pytest

from arlon_cli.cli import app, generate
from arlon_cli.cli.app import run


def one_line(captured: pytest.CaptureFixture[str]) -> str:
    """The error, which is one line on stderr with nothing on stdout."""
    out, err = captured.readouterr()
    assert out == ""
    assert err.startswith("Error: ")
    assert err.count("\n") == 1
    return err


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


@pytest.mark.parametrize(
    "command",
    [
        *("generate", "extend", "storyboard", "batch", "encode", "decode", "info"),
        *("models", "cache", "train", "evaluate", "bench"),
    ],
)
def test_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--help"]) == 0
    assert "Usage" in capsys.readouterr().out


def test_huge_pages_are_used_where_there_are_any(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "0")
    monkeypatch.setattr(app, "_HUGE_PAGES", tmp_path)
    app._use_huge_pages()
    assert os.environ["THP_MEM_ALLOC_ENABLE"] == "0"  # the user's
    monkeypatch.delenv("THP_MEM_ALLOC_ENABLE")
    monkeypatch.setattr(app, "_HUGE_PAGES", tmp_path / "none")
    app._use_huge_pages()
    assert "THP_MEM_ALLOC_ENABLE" not in os.environ
    monkeypatch.setattr(app, "_HUGE_PAGES", tmp_path)
    app._use_huge_pages()
    assert os.environ["THP_MEM_ALLOC_ENABLE"] == "1"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("arlon ")
