"""A device beside the CPU that every machine has: it computes on the CPU, and lets no tensors of the two be mixed."""

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map

DEVICE = torch.device("cuda", 0)
_BETWEEN = (torch.ops.aten.copy_.default, torch.ops.aten._has_compatible_shallow_copy_type.default)


@contextmanager
def second_device() -> Iterator["Memory"]:
    """Inside, "cuda" can be computed on, as on a machine with one GPU; gives its memory.

    An operation on tensors of both devices raises RuntimeError, as reading the GPU's through NumPy does.
    """
    memory = Memory()
    with (
        _Functions(memory),
        _Operations(memory),
        mock.patch("torch.Generator", lambda device="cpu", generator=torch.Generator: generator()),
        mock.patch("torch.accelerator.synchronize"),
        mock.patch("torch.cuda.get_device_capability", lambda device: (9, 0)),
        mock.patch("torch.cuda.get_device_name", lambda device: "a GPU"),
        mock.patch("torch.cuda.max_memory_allocated", lambda device: memory.peak),
        mock.patch("torch.cuda.reset_peak_memory_stats", lambda device: memory.reset()),
    ):
        yield memory


class Memory:
    """What is on the device: bytes now, and the most there were."""

    def __init__(self) -> None:
        self.now = self.peak = 0
        self._sizes: dict[int, int] = {}  # by the address of each storage

    def __contains__(self, tensor: Tensor) -> bool:
        return tensor.untyped_storage()._cdata in self._sizes

    def reset(self) -> None:
        self.peak = self.now

    def take(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._sizes:
            self._sizes[storage._cdata] = storage.nbytes()
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._free, storage._cdata)

    def _free(self, address: int) -> None:
        self.now -= self._sizes.pop(address, 0)

    def place(self, tensor: Tensor, there: bool, source: object) -> Tensor:
        """A tensor made from `source`, on the device or off it; a copy where the two are apart."""
        if tensor.is_meta or (tensor in self) == there:
            return tensor
        if isinstance(source, Tensor) and tensor.untyped_storage()._cdata == source.untyped_storage()._cdata:
            tensor = tensor.clone()
        if there:
            self.take(tensor)
        else:
            self._free(tensor.untyped_storage()._cdata)
        return tensor


class _Functions(TorchFunctionMode):
    """What asks for a device, or names one."""

    def __init__(self, memory: Memory) -> None:
        super().__init__()
        self.memory = memory

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        first = args[0] if args else None
        if func == Tensor.device.__get__:  # type: ignore[attr-defined]
            return DEVICE if first in self.memory else func(*args)
        if func in (Tensor.numpy, Tensor.__array__) and first in self.memory:
            raise TypeError("NumPy cannot read what is on the device.")
        if func == Tensor.new_tensor:
            return self.memory.place(func(*args, **kwargs), first in self.memory, None)
        given = [*args, *kwargs.values()]
        named = [torch.device(value) for value in given if _is_device(value)]
        makes = named and isinstance(func, type(torch.empty)) and func is not torch._C._nn._parse_to
        if func not in (Tensor.to, Tensor.cpu) and not makes:
            return func(*args, **kwargs)
        others = [value for value in given if isinstance(value, Tensor)]
        there = named[0].type == DEVICE.type if named else func == Tensor.to and others[-1] in self.memory
        args, kwargs = tree_map(lambda value: "cpu" if _is_device(value) and there else value, (args, kwargs))
        made = func(*args, **kwargs)
        return self.memory.place(made, there, first) if isinstance(made, Tensor) else made


class _Operations(TorchDispatchMode):
    """Results are where the arguments are, which are all in one place."""

    def __init__(self, memory: Memory) -> None:
        super().__init__()
        self.memory = memory

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [value for value in tree_iter((args, kwargs)) if isinstance(value, Tensor) and not value.is_meta]
        there = [tensor in self.memory for tensor in given]
        if not any(there) or func in _BETWEEN:
            return func(*args, **(kwargs or {}))
        if any(tensor.ndim and not on for tensor, on in zip(given, there, strict=True)):
            raise RuntimeError(f"{func} got tensors on the CPU and on the device.")
        made = func(*args, **(kwargs or {}))
        for value in tree_iter(made):
            if isinstance(value, Tensor):
                self.memory.take(value)
        return made


def _is_device(value: object) -> bool:
    return isinstance(value, torch.device) or (isinstance(value, str) and value in ("cpu", "cuda", "cuda:0"))
