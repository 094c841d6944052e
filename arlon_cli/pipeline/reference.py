"""What a video may start from besides its prompt: codes of a clip, a picture, or the end of another video."""

import hashlib
import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat

import numpy as np
import torch
from torch import Tensor

from arlon_cli.config import ModelConfig
from arlon_cli.pipeline.segments import Given
from arlon_cli.storage.store import artifact_key


@dataclass(frozen=True, eq=False)
class Reference:
    """What the first scene starts with: latents (1, C, T, H, W), given clean, and codes (t, h, w), not drafted."""

    latents: Tensor | None = None
    codes: Tensor | None = None

    @cached_property
    def given(self) -> Given:
        """How much is given, with keys that depend on every value of it."""
        return Given(
            num_latents=0 if self.latents is None else self.latents.shape[2],
            latents_key=_key(self.latents),
            num_codes=0 if self.codes is None else len(self.codes),
            codes_key=_key(self.codes),
        )


NO_REFERENCE = Reference()


def tail_frames(frames: Iterable[np.ndarray], config: ModelConfig) -> np.ndarray:
    """The last frames (n, H, W, 3) of a video, as many as a segment has, in whole chunks and code frames.

    A shorter video is filled up with its first frame, to the next whole ones. Memory does not grow with length.
    """
    chunk = config.video_vae.chunk
    latents = math.lcm(chunk.num_latents, config.latent_vqvae.ratio[0])
    unit = chunk.frames(latents)
    tail = deque(frames, maxlen=-(-config.segments.num_latents // latents) * unit)
    return np.stack([*repeat(tail[0], -len(tail) % unit), *tail])


def _key(values: Tensor | None) -> str:
    if values is None:
        return ""
    content = values.contiguous().view(torch.uint8).numpy().tobytes()
    return artifact_key(kind="given", shape=list(values.shape), content=hashlib.sha256(content).hexdigest())
