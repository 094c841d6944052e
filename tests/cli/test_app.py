import os
import subprocess
import sys
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


@pytest.mark.parametrize("command", [[], ["models"], ["cache"], ["train"]])
def test_no_arguments_show_help(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(command) == 2
    asked, (out, err) = run([*command, "--help"]), capsys.readouterr()
    assert asked == 0
    assert err == out  # the help as it is, on stderr, before that which was asked for


def test_an_interruption_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(generate.options, "check_sampling", stop)
    assert run(["generate", "a hill"]) == 130
    assert one_line(capsys) == "Error: Interrupted.\n"


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
def test_a_signal_within_an_import_ends_at_once(number: str, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(f"import os, signal\nos.kill(os.getpid(), signal.{number})\n")
    script = "from arlon_cli.cli import app\napp.run = lambda arguments: __import__('slow') and 0\napp.main()\n"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), str(tmp_path)])}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "Error: Interrupted.\n")


def test_closed_streams_are_no_errors(tmp_path: Path) -> None:
    script = "from arlon_cli.cli.app import main; main()"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    for closed, arguments, code in (("2>&-", "info nothing.mp4", 2), ("<&-", "storyboard -", 2), (">&-", "--help", 0)):
        command = f'"{sys.executable}" -c "{script}" {arguments} {closed}'
        done = subprocess.run(["sh", "-c", command], env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (code, "")
        assert "Unexpected" not in done.stderr


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
    app._prepare_torch()
    assert os.environ["THP_MEM_ALLOC_ENABLE"] == "0"  # the user's
    monkeypatch.delenv("THP_MEM_ALLOC_ENABLE")
    monkeypatch.setattr(app, "_HUGE_PAGES", tmp_path / "none")
    app._prepare_torch()
    assert "THP_MEM_ALLOC_ENABLE" not in os.environ
    monkeypatch.setattr(app, "_HUGE_PAGES", tmp_path)
    app._prepare_torch()
    assert os.environ["THP_MEM_ALLOC_ENABLE"] == "1"


def test_threads_that_wait_soon_sleep_unless_the_user_says_how(monkeypatch: pytest.MonkeyPatch) -> None:
    for user in ({"OMP_WAIT_POLICY": "active"}, {"GOMP_SPINCOUNT": "5"}, {}):
        with monkeypatch.context() as patch:
            for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
                patch.setenv(name, user.get(name, ""))
                if name not in user:
                    patch.delenv(name)
            app._prepare_torch()
            found = os.environ.get("GOMP_SPINCOUNT")
            assert found == (user.get("GOMP_SPINCOUNT") if user else "1000")
            os.environ.pop("GOMP_SPINCOUNT", None)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("arlon ")
