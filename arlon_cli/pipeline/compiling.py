"""`torch.compile`, where it works."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn


def compile_forward(module: nn.Module, on_warning: Callable[[str], None]) -> None:
    """Compile a module's `forward` when it is first called; where that fails, warn once and go on without."""
    eager = module.forward
    compiled = torch.compile(eager)
    works = False

    def forward(*arguments: Any, **named: Any) -> Any:
        nonlocal works
        try:
            result = compiled(*arguments, **named)
        except Exception as error:  # compilers fail in many ways; what `eager` raises too is its own
            if works or isinstance(error, torch.OutOfMemoryError):
                raise
            module.forward = eager
            result = eager(*arguments, **named)
            on_warning(f"--compile does not work here, and is left out: {' '.join(str(error).split())[:200]}")
        works = True
        return result

    module.forward = forward
