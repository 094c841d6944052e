"""What a training begins from: a part as a checkpoint has it or a new one, and a folder that it alone goes on in."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import nn

from arlon_cli.errors import InputError
from arlon_cli.models.blank import blank
from arlon_cli.storage.checkpoint import Checkpoint

Part = TypeVar("Part", bound=nn.Module)

RATE_ON = 0.2
"""Of a new part's learning rate, for one that learns on"""


def starting_part(part: str, checkpoint: Checkpoint | None, make: Callable[[], Part]) -> Part:
    """A part to be trained, on the CPU: the checkpoint's in float32, or what `make` makes where there is none.

    Parameters that a new one keeps as they are take no gradient in the checkpoint's either.
    """
    if checkpoint is None:
        return make()
    module = cast(Part, checkpoint.load(part, "cpu", torch.float32))
    with blank():
        learns = {name for name, parameter in make().named_parameters() if parameter.requires_grad}
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name in learns)
    return module


def check_target(target: Path, checkpoint: Checkpoint) -> None:
    """Raises InputError where a run's new checkpoint would take the place of the one that it starts from."""
    if target.resolve() == checkpoint.folder.resolve():
        raise InputError(f"{target.parent} is where the model comes from; name another folder for the run.")


def check_same_run(file: Path, run: dict[str, Any]) -> str:
    """What `file` is to hold, so that a later run finds there what began in its folder.

    Raises InputError where another run did.
    """
    stated = json.dumps(run, indent=2) + "\n"
    if file.exists():
        began = json.loads(file.read_text(encoding="utf-8"))
        if differing := [name for name, value in json.loads(stated).items() if value != began.get(name)]:
            raise InputError(
                f"The run in {file.parent} began with another {' and '.join(differing)}; "
                "go on with the same, or name another folder."
            )
    return stated
