"""The processes that train together: through accelerate where there are several, and without it where there is one."""

import os
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

from arlon_cli.errors import ArlonError

if TYPE_CHECKING:
    from accelerate import Accelerator

_LONGEST_WAIT = timedelta(days=14)  # while others still prepare their share of the data


class Processes:
    """This process among those of a run: number `rank` of `count`, and what they tell each other.

    All calls but the properties are made by all processes together, in the same order.
    """

    def __init__(self, accelerator: "Accelerator | None" = None) -> None:
        self._accelerator = accelerator
        self.rank = 0 if accelerator is None else accelerator.process_index
        self.count = 1 if accelerator is None else accelerator.num_processes

    @classmethod
    def from_environment(cls, device: torch.device) -> Self:
        """The processes that `torchrun` or `accelerate launch` started, or this one alone; on CPUs if `device` is one.

        Raises ArlonError where there are several and accelerate is not installed.
        """
        if int(os.environ.get("WORLD_SIZE", "1")) <= 1:
            return cls()
        try:
            from accelerate import Accelerator, InitProcessGroupKwargs
        except ImportError as error:
            raise ArlonError(
                "Several processes need accelerate; install it with `pip install 'arlon[train]'`."
            ) from error
        patience = InitProcessGroupKwargs(timeout=_LONGEST_WAIT)
        return cls(Accelerator(cpu=device.type == "cpu", kwargs_handlers=[patience]))

    def device(self, wanted: torch.device) -> torch.device:
        """Where this process computes: among several, each has its own."""
        return wanted if self._accelerator is None else self._accelerator.device

    def share(self, number: int) -> range:
        """Which of `number` things, a multiple of `count`, this process does."""
        each = number // self.count
        return range(self.rank * each, (self.rank + 1) * each)

    def average_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replace each gradient by its mean over the processes; one that is missing counts as zero."""
        if self._accelerator is None:
            return
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = self._accelerator.reduce(torch.cat([gradient.flatten() for gradient in gradients]), reduction="mean")
        sizes = [gradient.numel() for gradient in gradients]
        for parameter, mean in zip(parameters, flat.split(sizes), strict=True):
            parameter.grad = mean.view_as(parameter)

    def gather(self, tensor: Tensor) -> Tensor:
        """The tensors of all processes, of one shape, one behind the other along the first axis."""
        return tensor if self._accelerator is None else self._accelerator.gather(tensor)

    def agree(self, tensor: Tensor) -> None:
        """Make a tensor what it is in the first process, in place."""
        if self._accelerator is not None:
            from accelerate.utils import broadcast

            tensor.copy_(broadcast(tensor.to(self._accelerator.device)))

    def gather_objects(self, objects: list[Any]) -> list[Any]:
        """The lists of all processes as one."""
        if self._accelerator is None:
            return objects
        from accelerate.utils import gather_object

        return gather_object(objects)

    def any(self, flag: bool) -> bool:
        """Whether any process says so."""
        if self._accelerator is None:
            return flag
        return bool(self._accelerator.reduce(torch.tensor(float(flag), device=self._accelerator.device)).item())

    def wait(self) -> None:
        """Until all are here."""
        if self._accelerator is not None:
            self._accelerator.wait_for_everyone()


ALONE = Processes()
