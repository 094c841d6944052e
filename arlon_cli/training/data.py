"""Batches of the dioramas that are made as they are needed: captions, and crops of pixels."""

import random
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from arlon_cli.dioramas import ATTRIBUTES, HELD_OUT, SCENE_FRAMES, Scene, caption, render, sample_scene


def scene_of(seed: int) -> Scene:
    """The scene of a seed, of `SCENE_FRAMES` frames."""
    return sample_scene(seed, num_frames=SCENE_FRAMES)


def attribute_values(scene: Scene, frame: int, names: Iterable[str]) -> list[int]:
    """The indices, into `ATTRIBUTES`, of what a scene shows at a frame."""
    attributes = next(span.attributes for span in reversed(scene.spans) if span.start <= frame)
    return [ATTRIBUTES[name].index(attributes[name]) for name in names]


def caption_batch(batch: int, seed: int, step: int, device: torch.device) -> tuple[list[str], Tensor]:
    """Captions of `batch` spans and the values (batch, A) of all their attributes."""
    draw = random.Random(f"{seed} caption {step}")
    prompts, values = [], []
    for _ in range(batch):
        scene = scene_of(draw.randrange(HELD_OUT))
        index = draw.randrange(len(scene.spans))
        prompts.append(caption(scene, index, draw.randrange(1 << 30)))
        values.append(attribute_values(scene, scene.spans[index].start, ATTRIBUTES))
    return prompts, torch.tensor(values, device=device)


@dataclass(frozen=True)
class PixelCrops:
    """How pixel batches are cut: every scene gives `crops` squares of `size` pixels over `num_frames` frames."""

    scenes: int
    crops: int
    size: int
    num_frames: int
    image_size: int


def pixel_batch(cut: PixelCrops, seed: int, step: int, device: torch.device) -> Tensor:
    """A batch of crops (scenes · crops, 3, T, size, size) in [-1, 1] that depends on (seed, step) alone."""
    draw = random.Random(f"{seed} {step}")
    crops = []
    for _ in range(cut.scenes):
        scene = scene_of(draw.randrange(HELD_OUT))
        start = draw.randrange(SCENE_FRAMES - cut.num_frames)
        frames = torch.arange(start, start + cut.num_frames, device=device)
        pixels = render([scene], frames, cut.image_size, device)[0].transpose(0, 1) * 2 - 1  # (3, T, H, W)
        for _ in range(cut.crops):
            y, x = (draw.randrange(cut.image_size - cut.size + 1) for _ in range(2))
            crops.append(pixels[:, :, y : y + cut.size, x : x + cut.size])
    return torch.stack(crops)
