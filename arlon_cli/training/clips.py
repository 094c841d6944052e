"""Clips of dioramas, painted and encoded once, and the windows of them that later parts learn from."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from arlon_cli.config import SegmentConfig
from arlon_cli.dioramas import Scene, caption, mentioned, sample_scene
from arlon_cli.models.latent_vqvae import LatentVQVAE
from arlon_cli.models.text_encoder import TextEncoder
from arlon_cli.models.video_vae import VideoVAE
from arlon_cli.storage.partial import write_whole
from arlon_cli.training.ar import window_places
from arlon_cli.training.painting import files_to_write, paint_files

CodeBatch = tuple[list[str], Tensor, Tensor, Tensor]
"""Captions, codes (B, T, h, w), how many of their frames are given, and belong to another prompt, (B,) each"""

BATCHES = 4
"""How many are drawn at a time, and parted by the length of their captions"""

_UNCHANGED = 3  # code frames at most before a change that a window begins with
_TELLINGS = 8  # captions of a change that are tried for one that tells all of it


@dataclass(frozen=True)
class LatentClips:
    """Latents (N, C, T, H, W) in half precision, the scene that each shows, and its frame where each begins."""

    latents: Tensor
    scenes: list[Scene]
    starts: list[int]


CodedClips = tuple[LatentClips, Tensor]
"""Clips with their codes (N, T, h, w)"""


@dataclass(frozen=True)
class ClipKind:
    """Clips of `length` frames of scenes of `num_frames`: whole scenes, or where one state holds.

    With `lead`, every second clip begins so many frames before a change of state, and the others show none: what
    learns from nothing but changes expects them. `families` are those of the scenes, in turn, if not any.
    """

    num_frames: int
    length: int
    lead: int = 0
    families: tuple[str, ...] = ()

    def scene(self, seed: int) -> Scene:
        """The scene of a seed."""
        family = self.families[seed % len(self.families)] if self.families else None
        changing = seed % 2 == 0 if self.lead else None
        return sample_scene(seed, family=family, num_frames=self.num_frames, changing=changing)

    def start(self, scene: Scene) -> int:
        """Where the clip of a scene begins: a place drawn from its seed, where it is not settled."""
        if self.length == self.num_frames:
            return 0
        if self.lead and len(scene.spans) > 1:
            return scene.spans[1].start - self.lead
        draw = random.Random(f"{scene.seed} start")
        spans = [span for span in scene.spans if span.end - span.settled >= self.length]
        span = draw.choice(spans)
        return draw.randint(span.settled, span.end - self.length)

    def frames(self, seed: int) -> tuple[Scene, range]:
        """The scene of a seed, and the frames of its clip."""
        scene = self.scene(seed)
        start = self.start(scene)
        return scene, range(start, start + self.length)


def write_clips(
    vae: VideoVAE,
    folder: Path,
    kind: ClipKind,
    *,
    image_size: int,
    first: int,
    seconds: float,
    most: int,
    device: torch.device,
    precision: torch.dtype,
    stop: Callable[[], bool],
    per_file: int = 8,
) -> None:
    """Paint and encode clips into `folder` for so many seconds, or until there are `most`; files that exist stay.

    The scenes' seeds go up from `first`.
    """
    vae.eval()
    files = files_to_write(folder, first=first, per_file=per_file, most=most, seconds=seconds, stop=stop)
    for file, seeds, painted in paint_files(files, kind.frames, image_size):
        latents = []
        for frames in painted:
            pixels = frames.to(device).float().transpose(0, 1)[None] / 127.5 - 1  # (1, 3, T, H, W)
            with torch.inference_mode(), torch.autocast(device.type, precision, enabled=precision != torch.float32):
                latents.append(vae.encode(pixels).half().cpu())
        places = {"seeds": torch.tensor(seeds), "starts": torch.tensor([kind.frames(seed)[1].start for seed in seeds])}
        write_whole(file, save({"latents": torch.cat(latents).contiguous(), **places}))


def read_clips(folder: Path, kind: ClipKind, device: torch.device) -> LatentClips:
    """Read what `write_clips` wrote of a kind."""
    latents: list[Tensor] = []
    scenes: list[Scene] = []
    starts: list[int] = []
    for file in sorted(folder.glob("[!.]*.safetensors")):
        tensors = load_file(file)
        latents.append(tensors["latents"])
        scenes += [kind.scene(seed) for seed in tensors["seeds"].tolist()]
        starts += tensors["starts"].tolist()
    return LatentClips(torch.cat(latents).to(device), scenes, starts)


def also_half_a_code_later(clips: LatentClips, latents_per_code: int, frames_per_latent: int) -> LatentClips:
    """The clips twice, behind each other: as they are, and from half a code on, where their codes are others.

    Both end where the later ones do, with a whole code.
    """
    later = latents_per_code // 2
    length = (clips.latents.shape[2] - later) // latents_per_code * latents_per_code
    latents = torch.cat([clips.latents[:, :, first : first + length] for first in (0, later)])
    starts = [start + first * frames_per_latent for first in (0, later) for start in clips.starts]
    return LatentClips(latents, clips.scenes * 2, starts)


def code_batches(
    codes: Tensor,
    clips: LatentClips,
    *,
    batch: int,
    window: int,
    frames_per_code: int,
    draw: random.Random,
    anchored: bool,
) -> list[CodeBatch]:
    """`BATCHES` batches of captions and windows of the clips' codes (N, T, h, w).

    A window lies within one state of its scene, or begins with a few frames before that, as the draft of a later prompt
    does (4.5); its caption then tells what changes, as that prompt does. First frames are given where they do not yet
    look as the caption says: those belong to another prompt; and with `anchored` where `window_places` says so. The
    captions of a batch are about as long as each other, so that little of it is padding.
    """
    drawn: list[tuple[str, int, list[int], int, int]] = []
    while len(drawn) < BATCHES * batch:
        clip = draw.randrange(len(clips.scenes))
        scene, begin = clips.scenes[clip], clips.starts[clip]
        span_index = draw.randrange(len(scene.spans))
        span = scene.spans[span_index]
        first, settled = (max(0, -(-(frame - begin) // frames_per_code)) for frame in (span.start, span.settled))
        low = max(0, first - min(_UNCHANGED, window - 1))
        high = min(codes.shape[1], (span.end - begin) // frames_per_code) - window
        if high < low:
            continue
        start = draw.randint(low, min(high, max(low, first - 1)) if draw.random() < 0.3 else high)
        prompt = _caption(scene, span_index, draw, telling=start < first)
        places, anchoring = window_places(start, window, settled if anchored else start, draw)
        ended = max(first - start, int(start < settled))
        drawn.append((prompt, clip, places, max(ended, anchoring), ended))
    drawn.sort(key=lambda item: len(item[0].split()))
    batches: list[CodeBatch] = []
    for first in draw.sample(range(0, len(drawn), batch), BATCHES):
        prompts, some, windows, *counts = zip(*drawn[first : first + batch], strict=True)
        num_given, num_ended = torch.tensor(counts, device=codes.device)
        shown = codes[torch.tensor(some)[:, None], torch.tensor(windows)]
        batches.append((list(prompts), shown, num_given, num_ended))
    return batches


def _caption(scene: Scene, span_index: int, draw: random.Random, *, telling: bool) -> str:
    """A caption of a span; `telling`, one that tells all that has changed in it, if one of a few does."""
    changed: set[str] = set()
    if telling:
        before, after = (scene.spans[index].attributes for index in (span_index - 1, span_index))
        changed = {name for name, value in after.items() if before[name] != value}
    for _ in range(_TELLINGS):
        prompt = caption(scene, span_index, draw.randrange(1 << 30))
        if not changed or changed <= mentioned(prompt, scene.spans[span_index].attributes):
            break
    return prompt


def latent_windows(
    clips: LatentClips, conditions: Tensor, *, batch: int, window: int, frames_per_latent: int, draw: random.Random
) -> tuple[list[str], Tensor, Tensor]:
    """Captions, latents and conditions (B, C, window, H, W) at random places; the caption is that of the middle."""
    prompts, latents, condition = [], [], []
    for _ in range(batch):
        clip = draw.randrange(len(clips.scenes))
        start = draw.randint(0, clips.latents.shape[2] - window)
        middle = clips.starts[clip] + (start + window / 2) * frames_per_latent
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
