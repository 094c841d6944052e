"""Compiled where that works, the same without where it does not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from arlon_cli.errors import ArlonError
from arlon_cli.pipeline.compiling import compile_method
from arlon_cli.pipeline.pipeline import Pipeline
from arlon_cli.pipeline.segments import Settings
from arlon_cli.pipeline.shots import Shot
from arlon_cli.storage.checkpoint import Checkpoint
from arlon_cli.storage.store import Store


def broken(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    def compiled(*arguments: Any, **named: Any) -> Any:
        raise RuntimeError("no compiler\nwas found")

    return compiled


def test_what_cannot_be_compiled_runs_as_it_is_and_says_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", broken)
    module, x, warnings = nn.Linear(3, 2), torch.randn(4, 3), []
    expected = module(x)
    compile_method(module, "forward", warnings.append)
    assert torch.equal(module(x), expected)
    assert torch.equal(module(x), expected)
    assert warnings == ["--compile does not work here, and is left out: no compiler was found"]


def test_an_error_of_the_modules_own_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise ArlonError("not today")

    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    module, warnings = Failing(), []
    compile_method(module, "forward", warnings.append)
    with pytest.raises(ArlonError, match="not today"):
        module(torch.zeros(1))
    assert not warnings


def test_where_memory_is_full_nothing_larger_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        def compiled(x: Tensor) -> Tensor:
            raise torch.OutOfMemoryError("full")

        return compiled

    monkeypatch.setattr(torch, "compile", full)
    module, warnings = nn.Linear(1, 1), []
    compile_method(module, "forward", warnings.append)
    for _ in range(2):
        with pytest.raises(torch.OutOfMemoryError):
            module(torch.zeros(1, 1))
    assert not warnings


def test_drafting_and_the_dit_are_compiled_and_give_the_same_frames(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: set[str] = set()

    def compiler(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
            compiled.add(function.__qualname__)
            return graph.forward

        return compile_by(function, backend=backend, **options)

    compile_by = torch.compile

    monkeypatch.setattr(torch, "compile", compiler)
    found = []
    for compile_parts in (False, True):
        warnings: list[str] = []
        pipeline = Pipeline(
            Checkpoint(tiny_checkpoint),
            device=torch.device("cpu"),
            dtype=torch.float32,
            store=Store(tmp_path / str(compile_parts), 10**9),
            compile_parts=compile_parts,
            on_warning=warnings.append,
        )
        settings = Settings(0, 2, 1.0, use_ar=True)
        found.append(np.concatenate(list(pipeline.frames([Shot("hill", 40)], settings))).astype(int))
        assert not any("--compile" in warning for warning in warnings)
        assert compiled == ({"ARTransformer.step", "STDiT3.forward"} if compile_parts else set())
    assert np.abs(found[0] - found[1]).max() <= 1
