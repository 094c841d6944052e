import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from arlon_cli.cli.app import run
from arlon_cli.training import diorama as recipe


def test_prints_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def train(
        folder: Path,
        *,
        minutes: float,
        device: torch.device,
        precision: torch.dtype,
        seed: int,
        on_event: Callable[[str], None],
        stop: object,
    ) -> Path:
        on_event(f"{minutes:g} minutes on {device} in {precision} from {seed}")
        return folder / "checkpoint"

    monkeypatch.setattr(recipe, "train_diorama", train)
    assert (
        run(
            [
                "train",
                "diorama",
                "--minutes",
                "5",
                "--device",
                "cpu",
                "--dtype",
                "float32",
                "--seed",
                "2",
                "-o",
                str(tmp_path),
            ]
        )
        == 0
    )
    out, err = capsys.readouterr()
    assert out == f"{tmp_path / 'checkpoint'}\n"
    assert err == "5 minutes on cpu in torch.float32 from 2\n"


def test_ctrl_c_stops_after_the_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def train(folder: Path, *, stop: Callable[[], bool], **rest: object) -> Path:
        assert not stop()
        signal.raise_signal(signal.SIGINT)
        assert stop()
        raise recipe.Interrupted

    monkeypatch.setattr(recipe, "train_diorama", train)
    before = signal.getsignal(signal.SIGINT)
    assert run(["train", "diorama", "-o", str(tmp_path)]) == 130
    assert "same command goes on" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) == before
