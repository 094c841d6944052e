"""What the parts are trained on: batches of pixels drawn from the dioramas, and clips of latents kept on disk."""

import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from arlon_cli.config import SegmentConfig
from arlon_cli.dioramas import ATTRIBUTES, HELD_OUT, Scene, caption, render, sample_scene
from arlon_cli.models.latent_vqvae import LatentVQVAE
from arlon_cli.models.text_encoder import TextEncoder
from arlon_cli.models.video_vae import VideoVAE

_SCENE_FRAMES = 256


def attribute_values(scene: Scene, frame: int, names: Iterable[str]) -> list[int]:
    """The indices, into `ATTRIBUTES`, of what a scene shows at a frame."""
    attributes = next(span.attributes for span in reversed(scene.spans) if span.start <= frame)
    return [ATTRIBUTES[name].index(attributes[name]) for name in names]


def caption_batch(batch: int, seed: int, step: int, device: torch.device) -> tuple[list[str], Tensor]:
    """Captions of `batch` spans and the values (batch, A) of all their attributes."""
    draw = random.Random(f"{seed} caption {step}")
    prompts, values = [], []
    for _ in range(batch):
        scene = sample_scene(draw.randrange(HELD_OUT), num_frames=_SCENE_FRAMES)
        index = draw.randrange(len(scene.spans))
        prompts.append(caption(scene, index, draw.randrange(1 << 30)))
        values.append(attribute_values(scene, scene.spans[index].start, ATTRIBUTES))
    return prompts, torch.tensor(values, device=device)


def picture_batch(
    batch: int, names: Iterable[str], image_size: int, seed: int, step: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Frames (batch, 3, size, size) in [-1, 1], two of a scene, and the values (batch, A) of the attributes `names`."""
    draw = random.Random(f"{seed} picture {step}")
    pictures, values = [], []
    for _ in range(batch // 2):
        scene = sample_scene(draw.randrange(HELD_OUT), num_frames=_SCENE_FRAMES)
        settled = [f for f in range(_SCENE_FRAMES) if all(not 0 <= f - span.start < 36 for span in scene.spans[1:])]
        frames = sorted(draw.sample(settled, 2))
        pictures.append(render([scene], torch.tensor(frames, device=device), image_size, device)[0] * 2 - 1)
        values += [attribute_values(scene, frame, names) for frame in frames]
    return torch.cat(pictures), torch.tensor(values, device=device)


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
        scene = sample_scene(draw.randrange(HELD_OUT), num_frames=_SCENE_FRAMES)
        start = draw.randrange(_SCENE_FRAMES - cut.num_frames)
        frames = torch.arange(start, start + cut.num_frames, device=device)
        pixels = render([scene], frames, cut.image_size, device)[0].transpose(0, 1) * 2 - 1  # (3, T, H, W)
        for _ in range(cut.crops):
            y, x = (draw.randrange(cut.image_size - cut.size + 1) for _ in range(2))
            crops.append(pixels[:, :, y : y + cut.size, x : x + cut.size])
    return torch.stack(crops)


@dataclass(frozen=True)
class LatentClips:
    """Latents (N, C, T, H, W) of whole clips in half precision, and the scene that each shows."""

    latents: Tensor
    scenes: list[Scene]


def write_clips(
    vae: VideoVAE,
    folder: Path,
    *,
    num_frames: int,
    image_size: int,
    seed: int,
    seconds: float,
    most: int,
    device: torch.device,
    precision: torch.dtype,
    stop: Callable[[], bool],
    per_file: int = 8,
) -> None:
    """Render and encode clips into `folder` for so many seconds, or until there are `most`; files that exist stay."""
    folder.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + seconds
    frames = torch.arange(num_frames, device=device)
    vae.eval()
    for first in range(0, most, per_file):
        file = folder / f"{first:08d}.safetensors"
        if file.exists():
            continue
        if stop() or (time.monotonic() > end and first > 0):
            return
        seeds = [clip_seed(seed, first + i) for i in range(per_file)]
        latents = []
        for clip in seeds:
            pixels = render([sample_scene(clip, num_frames=num_frames)], frames, image_size, device) * 2 - 1
            with torch.inference_mode(), torch.autocast(device.type, precision, enabled=precision != torch.float32):
                latents.append(vae.encode(pixels.transpose(1, 2)).half().cpu())
        temporary = file.with_suffix(".tmp")
        save_file({"latents": torch.cat(latents).contiguous(), "seeds": torch.tensor(seeds)}, temporary)
        temporary.replace(file)


def clip_seed(seed: int, index: int) -> int:
    """The scene's seed of clip number `index`."""
    return (seed * 1_000_003 + index) % HELD_OUT


def read_clips(folder: Path, num_frames: int, device: torch.device) -> LatentClips:
    """Read what `write_clips` wrote."""
    latents, seeds = [], []
    for file in sorted(folder.glob("*.safetensors")):
        tensors = load_file(file)
        latents.append(tensors["latents"])
        seeds += tensors["seeds"].tolist()
    return LatentClips(torch.cat(latents).to(device), [sample_scene(s, num_frames=num_frames) for s in seeds])


def code_windows(
    codes: Tensor, scenes: list[Scene], *, batch: int, window: int, frames_per_code: int, draw: random.Random
) -> tuple[list[str], Tensor, Tensor]:
    """Captions, windows (B, window, h, w) of codes (N, T, h, w), and how many first frames of each are given (B,).

    A window lies within one state of its scene, or begins with the frame before that, as the draft of a later prompt
    does (4.5). Its first frame is given where it does not yet look as its caption says.
    """
    prompts: list[str] = []
    windows: list[Tensor] = []
    num_given: list[int] = []
    while len(windows) < batch:
        clip = draw.randrange(len(scenes))
        span_index = draw.randrange(len(scenes[clip].spans))
        span = scenes[clip].spans[span_index]
        low = max(0, -(-span.start // frames_per_code) - 1)
        high = min(codes.shape[1], span.end // frames_per_code) - window
        if high < low:
            continue
        start = low if draw.random() < 0.3 else draw.randint(low, high)
        prompts.append(caption(scenes[clip], span_index, draw.randrange(1 << 30)))
        windows.append(codes[clip, start : start + window])
        num_given.append(int(start * frames_per_code < span.settled))
    return prompts, torch.stack(windows), torch.tensor(num_given, device=codes.device)


def latent_windows(
    clips: LatentClips, conditions: Tensor, *, batch: int, window: int, frames_per_latent: int, draw: random.Random
) -> tuple[list[str], Tensor, Tensor]:
    """Captions, latents and conditions (B, C, window, H, W) at random places; the caption is that of the middle."""
    prompts, latents, condition = [], [], []
    for _ in range(batch):
        clip = draw.randrange(len(clips.scenes))
        start = draw.randint(0, clips.latents.shape[2] - window)
        middle = (start + window / 2) * frames_per_latent
        spans = clips.scenes[clip].spans
        index = next((i for i, span in enumerate(spans) if span.start <= middle < span.end), len(spans) - 1)
        prompts.append(caption(clips.scenes[clip], index, draw.randrange(1 << 30)))
        latents.append(clips.latents[clip, :, start : start + window])
        condition.append(conditions[clip, :, start : start + window])
    return prompts, torch.stack(latents).float(), torch.stack(condition).float()


def condition_batches(
    clips: LatentClips,
    conditions: Sequence[Tensor],
    text_encoder: TextEncoder,
    segments: SegmentConfig,
    *,
    frames: int,
    seed: int,
) -> Callable[[int], tuple[Tensor, Tensor, Tensor, Tensor]]:
    """What gives the batch of a step, by its number, that the DiT learns from: latents, text, text_mask and F.

    A batch has about `frames` latent frames in windows of one length, every third that of a segment, and F from one of
    the `conditions` (N, C, T, H, W).
    """

    def batch_at(step: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        draw = random.Random(f"{seed} dit {step}")
        window = segments.num_latents if step % 3 == 0 else draw.randint(segments.overlap + 1, 2 * segments.overlap)
        prompts, latents, condition = latent_windows(
            clips,
            draw.choice(conditions),
            batch=max(1, frames // window),
            window=window,
            frames_per_latent=VideoVAE.temporal_ratio,
            draw=draw,
        )
        with torch.no_grad():
            text, text_mask = text_encoder.encode(prompts)
        return latents, text, text_mask, condition

    return batch_at


@torch.inference_mode()
def encode_clips(vqvae: LatentVQVAE, latents: Tensor, chunk: int = 16) -> Tensor:
    """Codes (N, t, h, w) of latents (N, C, T, H, W), a few clips at a time."""
    return torch.cat([vqvae.encode(part.float()) for part in latents.split(chunk)])


@torch.inference_mode()
def decode_clips(vqvae: LatentVQVAE, codes: Tensor, chunk: int = 16) -> Tensor:
    """Conditions F (N, C, T, H, W) of codes, in half precision."""
    return torch.cat([vqvae.decode(part).half() for part in codes.split(chunk)])
