"""Compiled where that works, the same without where it does not."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from arlon_cli.errors import ArlonError
from arlon_cli.pipeline.compiling import compile_forward
from arlon_cli.pipeline.pipeline import Pipeline
from arlon_cli.pipeline.segments import Settings
from arlon_cli.pipeline.shots import Shot
from arlon_cli.storage.checkpoint import Checkpoint
from arlon_cli.storage.store import Store


def broken(function: Callable[..., Any]) -> Callable[..., Any]:
    def compiled(*arguments: Any, **named: Any) -> Any:
        raise RuntimeError("no compiler\nwas found")

    return compiled


def test_what_cannot_be_compiled_runs_as_it_is_and_says_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", broken)
    module, x, warnings = nn.Linear(3, 2), torch.randn(4, 3), []
    expected = module(x)
    compile_forward(module, warnings.append)
    assert torch.equal(module(x), expected)
    assert torch.equal(module(x), expected)
    assert warnings == ["--compile does not work here, and is left out: no compiler was found"]


def test_an_error_of_the_modules_own_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise ArlonError("not today")

    monkeypatch.setattr(torch, "compile", lambda function: function)
    module, warnings = Failing(), []
    compile_forward(module, warnings.append)
    with pytest.raises(ArlonError, match="not today"):
        module(torch.zeros(1))
    assert not warnings


@pytest.mark.parametrize(("error", "first"), [(RuntimeError("later"), True), (torch.OutOfMemoryError("full"), False)])
def test_what_no_compiler_did_is_raised(error: Exception, first: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error behind a call that worked, or memory that is full, of which more without the compiler would be."""
    calls = iter([None, error] if first else [error])

    def compiled(x: Tensor) -> Tensor:
        if (failure := next(calls)) is not None:
            raise failure
        return x

    monkeypatch.setattr(torch, "compile", lambda function: compiled)
    module, warnings = nn.Linear(1, 1), []
    compile_forward(module, warnings.append)
    if first:
        module(torch.zeros(1))
    with pytest.raises(type(error), match=str(error)):
        module(torch.zeros(1))
    assert not warnings


def test_the_dit_is_compiled_and_gives_the_same_frames(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs: list[object] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    found = []
    for compile_dit in (False, True):
        warnings: list[str] = []
        pipeline = Pipeline(
            Checkpoint(tiny_checkpoint),
            device=torch.device("cpu"),
            dtype=torch.float32,
            store=Store(tmp_path / str(compile_dit), 10**9),
            compile_dit=compile_dit,
            on_warning=warnings.append,
        )
        settings = Settings(0, 2, 1.0, use_ar=True)
        found.append(np.concatenate(list(pipeline.frames([Shot("hill", 40)], settings))).astype(int))
        assert not any("--compile" in warning for warning in warnings)
        assert bool(graphs) == compile_dit
    assert np.abs(found[0] - found[1]).max() <= 1
