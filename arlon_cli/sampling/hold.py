"""Holding a scene to the look that it began with: each frame grows out of the last ones, so small changes add up."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

_FIRST, _LATEST = 4, 4  # frames that say what a scene looked like, and looks like; by fewer, lightning would echo
_PATIENCE = 32  # frames after which what moved and stayed so counts twice


@dataclass(frozen=True, eq=False)
class Hold:
    """Draws codes back towards a scene's first frames. An addition of ours.

    `vectors` (codebook size, D) are the codebook's, and their mean over a frame is how it looks. The further the latest
    frames have moved from the first, the less likely are codes that go on that way: a logit is lowered by `strength` ·
    ⟨vector, move⟩ over the variance of the vectors. Of codes that are about as likely, more then lead back, and what
    moves within a scene goes on moving. To the move of the latest frames come those of all frames so far, a little of
    each: as in a controller of processes, the latter take away what the former alone leaves.
    """

    vectors: Tensor
    strength: float

    def bias(self, scene: Sequence[Tensor]) -> Tensor | None:
        """What is added to the logits (codebook size,) of the frame behind those of a scene, (h, w) each.

        None behind the first ones, which it holds to, and at a strength of 0.
        """
        if len(scene) <= _FIRST or self.strength == 0.0:
            return None
        codes = torch.stack(list(scene))
        first, later, latest = (self._look(frames) for frames in (codes[:_FIRST], codes[_FIRST:], codes[-_LATEST:]))
        moved = latest - first + (len(scene) - _FIRST) / _PATIENCE * (later - first)
        return -self._pulls @ moved

    @cached_property
    def _pulls(self) -> Tensor:
        return self.strength / self.vectors.var(dim=0, correction=0).sum() * self.vectors

    def _look(self, codes: Tensor) -> Tensor:
        """The mean vector (D,) of codes."""
        return torch.bincount(codes.flatten(), minlength=len(self.vectors)) / codes.numel() @ self.vectors
