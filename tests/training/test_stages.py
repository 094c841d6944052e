"""How the stages of a recipe are planned."""

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from arlon_cli.config import ModelConfig
from arlon_cli.training.budget import Budget
from arlon_cli.training.loop import Interrupted
from arlon_cli.training.stages import CPU, Run


def test_what_is_to_stop_does_not_plan_first(tmp_path: Path, tiny_config: ModelConfig) -> None:
    model, steps = nn.Linear(2, 2), []

    def loss(batch: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        steps.append(len(steps))
        return model(batch).square().sum(), {}

    run = Run(
        folder=tmp_path,
        parts=frozenset({"ar"}),
        start=None,
        config=tiny_config,
        scale=CPU,
        device=torch.device("cpu"),
        precision=torch.float32,
        seed=0,
        budget=Budget(tmp_path / "budget.json", minutes=0.02, shares={"ar": 1}),
        on_event=lambda message: None,
        stop=lambda: len(steps) == 3,
    )
    dropped: list[int] = []
    planning = partial(run.plan, "ar", model, lambda index: torch.ones(1, 2), loss, lambda: dropped.append(len(steps)))
    with pytest.raises(Interrupted):
        planning()
    assert len(steps) == 3 and not run.budget.steps
    steps.append(3)  # now it goes on
    assert planning() == run.budget.steps["ar"] >= 9
    assert dropped == [1, 2, 3, *range(5, len(steps) + 1)]  # what each trial left
