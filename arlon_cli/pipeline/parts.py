"""The parts of a model at work: loaded when they are first needed, and with `offload` resting off the device."""

from collections.abc import Callable, Iterable, Iterator
from typing import cast

import torch
from torch import Tensor, nn

from arlon_cli.models.ar_transformer import ARTransformer
from arlon_cli.models.draft_ranker import DraftRanker
from arlon_cli.models.latent_vqvae import LatentVQVAE
from arlon_cli.models.opensora_vae import OpenSoraVAE
from arlon_cli.models.stdit import STDiT3
from arlon_cli.models.video_vae import VideoVAE
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
        self._resting: dict[str, list[tuple[Tensor, Tensor]]] = {}  # tensors of large parts, and what they hold at rest

    def use(self, name: str) -> nn.Module:
        """A part, on the device and kept. Raises CheckpointError where it cannot be loaded."""
        if name not in self.on_device:
            self._rest()
            if name not in self._loaded:
                rests = self.offload and name in _RESTING
                part = self.checkpoint.load(name, "cpu" if rests else self.device, self.dtype)
                self._resting[name] = [(t, t.data) for t in (*part.parameters(), *part.buffers())] if rests else []
                self._loaded[name] = part
                self.prepare(name, part)
            self.on_device.add(name)
            for tensor, at_rest in self._resting[name]:
                tensor.data = at_rest.to(self.device)
        return self._loaded[name]

    @property
    def ar(self) -> ARTransformer:
        return cast(ARTransformer, self.use("ar"))

    @property
    def ranker(self) -> DraftRanker:
        return cast(DraftRanker, self.use("ranker"))

    @property
    def latent_vqvae(self) -> LatentVQVAE:
        return cast(LatentVQVAE, self.use("latent_vqvae"))

    @property
    def dit(self) -> STDiT3:
        return cast(STDiT3, self.use("dit"))

    @property
    def video_vae(self) -> VideoVAE | OpenSoraVAE:
        return cast(VideoVAE | OpenSoraVAE, self.use("video_vae"))

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
            for tensor, at_rest in self._resting[name]:
                tensor.data = at_rest
            self.on_device.remove(name)
