"""The parts of a model at work: loaded when they are first needed, and with `offload` resting off the device."""

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn

from arlon_cli.storage.checkpoint import Checkpoint

_RESTING = ("ar", "dit", "video_vae")  # the others are small, or not kept


class Parts:
    """Parts of a checkpoint on a device, each given to `prepare` when it was loaded to be kept.

    With `offload`, one large part at most is on the device, and the others rest.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: torch.device,
        dtype: torch.dtype,
        *,
        offload: bool,
        prepare: Callable[[str, nn.Module], None] = lambda name, part: None,
    ) -> None:
        self.checkpoint, self.device, self.dtype, self.offload = checkpoint, device, dtype, offload
        self.prepare = prepare
        self.on_device: set[str] = set()
        self._loaded: dict[str, nn.Module] = {}

    def use(self, name: str) -> nn.Module:
        """A part, on the device and kept. Raises CheckpointError where it cannot be loaded."""
        if name not in self.on_device:
            self._rest()
            if name in self._loaded:
                self._loaded[name].to(self.device)
            else:
                self._loaded[name] = self.checkpoint.load(name, self.device, self.dtype)
                self.prepare(name, self._loaded[name])
            self.on_device.add(name)
        return self._loaded[name]

    def use_once(self, name: str) -> nn.Module:
        """A part on the device that is gone when the caller lets go of it."""
        self._rest()
        return self.checkpoint.load(name, self.device, self.dtype)

    def feed(self, name: str, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        """The chunks, for a part that streams: it is on the device whenever it gets one."""
        for chunk in chunks:
            self.use(name)
            yield chunk

    def _rest(self) -> None:
        if not self.offload:
            return
        for name in self.on_device.intersection(_RESTING):
            self._loaded[name].to("cpu")
            self.on_device.remove(name)
