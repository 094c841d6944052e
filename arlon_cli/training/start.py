"""What a training begins from: a part as a checkpoint has it or a new one, and a folder that it alone goes on in."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from filelock import FileLock, Timeout
from torch import nn

from arlon_cli.errors import InputError
from arlon_cli.models.blank import blank
from arlon_cli.storage.checkpoint import Checkpoint
from arlon_cli.storage.partial import write_whole
from arlon_cli.training.processes import ALONE, Processes

Part = TypeVar("Part", bound=nn.Module)

_LEFT_BY_RUNS = ("checkpoint", "metrics.jsonl", "state.safetensors")  # which a new run would replace

_LOCK = ".run.lock"

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


@contextmanager
def folder_of_run(folder: Path, processes: Processes = ALONE) -> Iterator[None]:
    """The folder of a run, made where there is none, while no other run goes on in it; it does not stay empty.

    Raises InputError where it cannot be made, is a checkpoint, or another run is at work there.
    """
    if (folder / "config.json").exists():
        raise InputError(f"{folder} is a checkpoint; name another folder for the run.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        in_the_way = isinstance(error, FileExistsError | NotADirectoryError)
        reason = "there is a file of that name" if in_the_way else error.strerror
        raise InputError(f"{folder} cannot be the folder of a run: {reason}.") from error
    lock = FileLock(folder / _LOCK)
    try:
        if processes.rank == 0:
            lock.acquire(blocking=False)
    except Timeout as error:
        raise InputError(f"Another run is at work in {folder}.") from error
    try:
        yield
    finally:
        if processes.rank == 0:
            (folder / _LOCK).unlink(missing_ok=True)
            lock.release()
            with suppress(OSError):
                folder.rmdir()


def check_same_run(file: Path, run: dict[str, Any], processes: Processes = ALONE) -> None:
    """Note in `file` what the run is, or see that it is the one that began in the folder.

    Raises InputError where another run did, or the file is damaged.
    """
    stated = json.dumps(run, indent=2) + "\n"
    only_begun = _has_only_begun(file.parent)
    there = file.exists() and not only_begun
    left = [] if only_begun else [name for name in _LEFT_BY_RUNS if (file.parent / name).exists()]
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


def _has_only_begun(folder: Path) -> bool:
    """Whether a run began in a folder and came to no step, as one that fails at first."""
    left = [file for file in folder.iterdir() if file.name not in ("run.json", _LOCK)]
    made_nothing = all(file.name == "metrics.jsonl" and file.stat().st_size == 0 for file in left)
    return (folder / "run.json").exists() and made_nothing
