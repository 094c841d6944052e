"""The shared loop: resuming equals never stopping, and what it averages is the mean of where the weights have been."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from arlon_cli.errors import ArlonError, CheckpointError
from arlon_cli.training import loop
from arlon_cli.training.loop import LoopSettings, Trained, steps_within, train

SETTINGS = LoopSettings(
    learning_rate=1e-2,
    betas=(0.9, 0.99),
    weight_decay=0.01,
    warmup_steps=3,
    final_rate=0.1,
    clip_norm=1.0,
    ema_decay=0.9,
    save_seconds=1e9,
    seed=3,
)


def run(
    folder: Path, num_steps: int, stop_after: int | None = None, settings: LoopSettings = SETTINGS
) -> tuple[nn.Module, Trained | None]:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    calls = 0

    def stop() -> bool:
        nonlocal calls
        calls += 1
        return stop_after is not None and calls >= stop_after

    def loss(batch: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        noisy = batch + 0.1 * torch.randn_like(batch)  # the loop seeds each step
        error = (module(noisy) - batch.sum(1, keepdim=True)).square().mean()
        return error, {"error": error.detach()}

    trained = train(
        module,
        lambda step: torch.randn(16, 4),
        loss,
        settings,
        num_steps=num_steps,
        folder=folder,
        precision=torch.float32,
        stop=stop,
    )
    return module, trained


@pytest.mark.parametrize("matrix_rate", [None, 2e-2])
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path, matrix_rate: float | None) -> None:
    settings = replace(SETTINGS, matrix_rate=matrix_rate)
    _, whole = run(tmp_path / "whole", 30, settings=settings)
    _, interrupted = run(tmp_path / "parts", 30, stop_after=11, settings=settings)
    assert interrupted is None
    _, resumed = run(tmp_path / "parts", 30, settings=settings)
    assert whole is not None and resumed is not None
    for name, value in whole.weights.items():
        assert torch.equal(value, resumed.weights[name])
    assert whole.metrics == resumed.metrics


def test_training_lowers_the_loss_and_averages_differ_from_the_last_weights(tmp_path: Path) -> None:
    module, trained = run(tmp_path, 200)
    assert trained is not None
    assert trained.metrics["loss"] < 0.5
    weight = dict(module.named_parameters())["0.weight"]
    assert not torch.equal(weight, trained.weights["0.weight"])
    assert torch.allclose(weight, trained.weights["0.weight"], atol=0.05)


def test_every_seed_that_the_command_line_takes_is_one(tmp_path: Path) -> None:
    largest = [run(tmp_path / str(seed), 2, settings=replace(SETTINGS, seed=seed))[1] for seed in (2**63 - 1, 2**62)]
    assert largest[0] is not None and largest[1] is not None
    assert largest[0].metrics != largest[1].metrics


def test_the_state_of_another_model_is_refused(tmp_path: Path) -> None:
    run(tmp_path, 2)
    with pytest.raises(CheckpointError, match="another model"):
        train(
            nn.Linear(3, 3),
            lambda step: None,
            lambda batch: (torch.zeros(()), {}),
            SETTINGS,
            num_steps=5,
            folder=tmp_path,
            precision=torch.float32,
        )


def test_a_damaged_state_is_named(tmp_path: Path) -> None:
    run(tmp_path, 5)
    state = tmp_path / "state.safetensors"
    state.write_bytes(state.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="damaged; remove it"):
        run(tmp_path, 8)


def lossy(folder: Path, lost: Callable[[int], bool], num_steps: int) -> None:
    """Train with a loss that is no number at some steps."""
    module = nn.Linear(2, 1)

    def loss(step: int) -> tuple[Tensor, dict[str, Tensor]]:
        return module(torch.ones(1, 2)).sum() * (float("nan") if lost(step) else 1.0), {}

    train(module, lambda step: step, loss, SETTINGS, num_steps=num_steps, folder=folder, precision=torch.float32)


def test_a_training_that_comes_apart_ends_and_keeps_what_was_good(tmp_path: Path) -> None:
    lossy(tmp_path / "some", lambda step: step % 2 == 1, 120)
    lossy(tmp_path / "all", lambda step: False, 10)
    good = (tmp_path / "all" / "state.safetensors").read_bytes()
    for num_steps, ended in ((200, 60), (20, 20)):
        with pytest.raises(ArlonError, match=f"came apart by step {ended}"):
            lossy(tmp_path / "all", lambda step: step >= 10, num_steps)
        assert (tmp_path / "all" / "state.safetensors").read_bytes() == good


def test_a_full_disk_is_told_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object, **named: object) -> None:
        raise SafetensorError("Error while serializing: No space left on device")

    monkeypatch.setattr(loop, "save_file", full)
    with pytest.raises(ArlonError, match=r"state.safetensors: .*No space left on device; make room"):
        run(tmp_path, 2)
    assert not (tmp_path / "state.safetensors").exists()


def test_batches_of_half_precision_are_made_outside_of_autocast(tmp_path: Path) -> None:
    module = nn.Linear(4, 1)
    seen = []

    def loss(batch: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        seen.append((batch.dtype, module(batch).dtype))
        return module(batch).float().square().mean(), {}

    stored = torch.randn(8, 4).half()  # which autocast on CPUs refuses to stack
    train(
        module,
        lambda step: torch.stack([stored[step], stored[step + 1]]).float(),
        loss,
        SETTINGS,
        num_steps=2,
        folder=tmp_path,
        precision=torch.bfloat16,
    )
    assert seen == [(torch.float32, torch.bfloat16)] * 2


@pytest.mark.parametrize(("seconds", "expected"), [(30, 270), (0.1, 10)])
def test_slow_first_steps_do_not_make_a_plan_short(
    monkeypatch: pytest.MonkeyPatch, seconds: float, expected: int
) -> None:
    taken = [1.0, 1.0]  # then a tenth of a second each
    now = 0.0

    def step() -> None:
        nonlocal now
        now += taken.pop() if taken else 0.1

    monkeypatch.setattr(loop.time, "monotonic", lambda: now)
    assert steps_within(seconds, step, lambda: None) == pytest.approx(expected, abs=5)
