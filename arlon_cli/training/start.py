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
from arlon_cli.storage.partial import write_whole
from arlon_cli.training.processes import ALONE, Processes

Part = TypeVar("Part", bound=nn.Module)

_LEFT_BY_RUNS = ("checkpoint", "metrics.jsonl", "state.safetensors")  # which a new run would replace

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


def make_folder(folder: Path) -> None:
    """The folder of a run. Raises InputError where there is a file of that name."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise InputError(f"{folder} cannot be the folder of a run: there is a file of that name.") from error


def check_same_run(file: Path, run: dict[str, Any], processes: Processes = ALONE) -> None:
    """Note in `file` what the run is, or see that it is the one that began in the folder.

    Raises InputError where another run did, or the file is damaged.
    """
    stated = json.dumps(run, indent=2) + "\n"
    there = file.exists()
    left = [name for name in _LEFT_BY_RUNS if (file.parent / name).exists()]
    processes.wait()  # until all have looked
    if there:
        try:
            began = dict(json.loads(file.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise InputError(f"{file} is damaged; name another folder for the run.") from error
        if differing := [name for name, value in json.loads(stated).items() if value != began.get(name)]:
            raise InputError(
                f"The run in {file.parent} began with another {' and '.join(differing)}; "
                "go on with the same, or name another folder."
            )
    elif left:
        raise InputError(f"{file.parent} holds {left[0]}, but not of a run; name another folder for this one.")
    elif processes.rank == 0:
        write_whole(file, stated.encode())
