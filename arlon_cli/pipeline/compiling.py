"""`torch.compile`, where it works."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn


def compile_method(module: nn.Module, name: str, on_warning: Callable[[str], None], *, dynamic: bool = False) -> None:
    """Compile a module's method when it is first called; where that fails, warn once and go on without.

    With `dynamic`, for arguments of all shapes at once: else whatever has another shape is compiled again. A method
    must be such that it may be called again where a call has failed.
    """
    eager = getattr(module, name)
    compiled = torch.compile(eager, dynamic=dynamic or None)

    def call(*arguments: Any, **named: Any) -> Any:
        try:
            return compiled(*arguments, **named)
        except torch.OutOfMemoryError:  # without the compiler it would need more
            raise
        except Exception as error:  # compilers fail in many ways; what `eager` raises too is its own
            setattr(module, name, eager)
            result = eager(*arguments, **named)
            on_warning(f"--compile does not work here, and is left out: {' '.join(str(error).split())[:200]}")
            return result

    setattr(module, name, call)
