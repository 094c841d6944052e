"""More of a video that is there already: what it goes on from, and the frames that follow."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from arlon_cli.errors import ArlonError
from arlon_cli.pipeline.pipeline import Pipeline
from arlon_cli.pipeline.reference import NO_REFERENCE, Reference, tail_frames
from arlon_cli.pipeline.segments import Settings
from arlon_cli.pipeline.shots import Shot, scenes_of
from arlon_cli.storage.metadata import VideoMetadata


@dataclass(frozen=True)
class Extension:
    """Shots of which the frames from `first_frame` on are new, and what they start from.

    `origin` is `plan` where they go on as a longer video of the same making would, `latents` where they go on from
    stored latents (of `latents_key`) under other settings, `pixels` where the end of the video was encoded.
    """

    shots: tuple[Shot, ...]
    settings: Settings
    reference: Reference
    first_frame: int
    origin: str
    latents_key: str = ""

    @property
    def seed(self) -> int:
        """The seed of the new frames: the last shot's own, where it has one."""
        own = self.shots[-1].seed
        return self.settings.seed if own is None else own

    def frames(self, pipeline: Pipeline) -> Iterator[np.ndarray]:
        """The new frames in chunks (n, H, W, 3) uint8, at the model's size and rate."""
        return pipeline.frames(self.shots, self.settings, self.reference, first_frame=self.first_frame)

    def metadata(self, pipeline: Pipeline, *, source: str, num_frames: int) -> VideoMetadata:
        """What the longer video, of `num_frames` frames in all, is to say about its making."""
        made = pipeline.metadata(self.shots, self.settings, self.reference)
        extends = "" if self.origin == "plan" else source
        last_latents = made.last_latents or self.latents_key  # a few frames may have been there already, unshown
        return replace(made, num_frames=num_frames, extends=extends, last_latents=last_latents)


def why_encoded(made: VideoMetadata, num_frames: int, pipeline: Pipeline) -> str | None:
    """Why a video that has `num_frames` frames cannot go on from its latents; None where it can."""
    if made.model_digest != pipeline.checkpoint.digest:
        return f"was made by another checkpoint than this {pipeline.config.name}"
    if made.num_frames != num_frames:
        return f"has {num_frames} frames, and had {made.num_frames}"
    if f"torch.{made.dtype}" != str(pipeline.dtype):
        return f"was rendered in {made.dtype}"
    stored = pipeline.store.read("latents", made.last_latents)
    if stored is None:
        return "is not in the store"
    if not _whole_chunks(stored, pipeline).shape[2]:
        return "ends in too short a scene to go on from its latents"
    return None


def last_settings(made: VideoMetadata) -> Settings:
    """How the last shot of a video was rendered."""
    last = made.shots[-1]
    return Settings(
        seed=made.seed if last.seed is None else last.seed,
        num_steps=made.num_steps if last.num_steps is None else last.num_steps,
        guidance_scale=made.guidance_scale if last.guidance_scale is None else last.guidance_scale,
        use_ar=made.use_ar,
        reuse=made.reuse,
    )


def extend_plan(made: VideoMetadata, prompt: str, num_frames: int) -> Extension:
    """Go on as the video itself would have: the same plan, longer, its last shot's settings kept.

    The video started from its prompts alone.
    """
    shots = tuple(Shot(**asdict(shot)) for shot in made.shots)
    settings = Settings(made.seed, made.num_steps, made.guidance_scale, made.use_ar, made.redo, reuse=made.reuse)
    first_frame = sum(shot.num_frames for shot in shots)
    added = replace(shots[-1].more(num_frames), prompt=prompt)
    return Extension((*shots, added), settings, NO_REFERENCE, first_frame, "plan")


def extend_latents(
    made: VideoMetadata, prompt: str, num_frames: int, settings: Settings, pipeline: Pipeline
) -> Extension:
    """Go on from the stored latents of the last segment. Raises ArlonError where `why_encoded` tells a reason."""
    stored = pipeline.store.read("latents", made.last_latents)
    if stored is None:
        raise ArlonError(f"The store lost the latents of {made.extends or 'the video'}; start again.")
    chunk, latents = pipeline.config.video_vae.chunk, _whole_chunks(stored, pipeline)
    unseen = -_last_scene(made) % chunk.num_frames  # frames of the last chunk that the video lacks
    reference = pipeline.going_on(latents, settings.use_ar)
    first_frame = chunk.frames(latents.shape[2]) - unseen
    extension = _extend(reference, prompt, num_frames, settings, first_frame, "latents")
    return replace(extension, latents_key=made.last_latents)


def _whole_chunks(stored: dict[str, Tensor], pipeline: Pipeline) -> Tensor:
    """The latest latents (1, C, T, H, W) of a scene, as stored with its last segment, in whole chunks."""
    latents = stored.get("recent", stored["latents"])
    return latents[:, :, latents.shape[2] % pipeline.config.video_vae.chunk.num_latents :]


def _last_scene(made: VideoMetadata) -> int:
    """The frames of a video's last scene."""
    scenes = scenes_of(Shot(shot.prompt, shot.num_frames, shot.cut) for shot in made.shots)
    return sum(shot.num_frames for shot in scenes[-1])


def frames_before_last_scene(made: VideoMetadata, num_frames: int) -> int:
    """How many of a video's `num_frames` frames lie before its last cut, as far as it tells."""
    known = not made.extends and num_frames == sum(shot.num_frames for shot in made.shots)
    return num_frames - _last_scene(made) if known else 0


def extend_pixels(
    frames: Iterable[np.ndarray], prompt: str, num_frames: int, settings: Settings, pipeline: Pipeline
) -> Extension:
    """Go on from the last of a video's frames (H, W, 3) uint8, which are at the model's size and rate."""
    reference = pipeline.reference_of(tail_frames(frames, pipeline.config), settings.use_ar)
    first_frame = pipeline.config.video_vae.chunk.frames(reference.given.num_latents)
    return _extend(reference, prompt, num_frames, settings, first_frame, "pixels")


def _extend(
    reference: Reference, prompt: str, num_frames: int, settings: Settings, first_frame: int, origin: str
) -> Extension:
    return Extension((Shot(prompt, first_frame + num_frames),), settings, reference, first_frame, origin)


def fitted(
    chunks: Iterable[np.ndarray], *, width: int, height: int, source_fps: float, fps: float, num_frames: int
) -> Iterator[np.ndarray]:
    """Frames (n, h, w, 3) uint8 of a rate as `num_frames` frames (n, height, width, 3) of another, each the latest."""
    passed = given = 0
    for chunk in chunks:
        passed += len(chunk)
        chosen = []  # frames of the chunk
        while given < num_frames and (index := int(given * source_fps / fps)) < passed:
            chosen.append(index - (passed - len(chunk)))
            given += 1
        if chosen:
            yield _resized(chunk[chosen], width, height)


def _resized(frames: np.ndarray, width: int, height: int) -> np.ndarray:
    if frames.shape[1:3] == (height, width):
        return frames
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2).float()
    pixels = F.interpolate(pixels, (height, width), mode="bicubic", antialias=True)
    return pixels.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
