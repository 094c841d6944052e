"""How a long video is cut into segments, and what each of them depends on."""

import hashlib
from collections.abc import Sequence
from dataclasses import astuple, dataclass

from arlon_cli.config import ModelConfig, SegmentConfig
from arlon_cli.pipeline.shots import Shot, stages_of
from arlon_cli.storage.store import artifact_key

METHOD = 6
"""Part of every key in the store: one more for each change of the code that drafts or denoises otherwise"""


@dataclass(frozen=True)
class Segment:
    """Latent frames [start, end), of which the first `overlap` are there already: the last of what comes before."""

    index: int
    start: int
    end: int
    overlap: int


@dataclass(frozen=True)
class CodeSpan:
    """`num_frames` code frames from `start` on under a shot's prompt; the shot begins at code frame `shot_start`.

    `seed` is the shot's own, where it has one. `before` is the prompt of the shot that it grows out of, if another.
    """

    prompt: str
    shot_start: int
    start: int
    num_frames: int
    seed: int | None = None
    before: str | None = None


@dataclass(frozen=True)
class Settings:
    """How to render: what a user may set, with the preset's defaults filled in.

    `redo` names segments of the video, from 1, that take other noise than the seed's; named n times, the nth other.
    With `reschedule_noise`, later segments take the first one's noise, shuffled, as FreeNoise does. Steps repeat what
    the DiT said until x_t has changed by `reuse`; 0 asks it at each.
    """

    seed: int
    num_steps: int
    guidance_scale: float
    use_ar: bool
    redo: tuple[int, ...] = ()
    reschedule_noise: bool = False
    reuse: float = 0.0


@dataclass(frozen=True)
class Job:
    """A segment to render: how, the code frames that it is the first to need, and its keys in the store."""

    segment: Segment
    prompt: str
    noise_seed: int
    num_steps: int
    guidance_scale: float
    spans: tuple[CodeSpan, ...]
    codes_key: str
    latents_key: str
    reschedule_noise: bool = False
    reuse: float = 0.0


@dataclass(frozen=True)
class Given:
    """How many latent and code frames a scene starts with that are given, and the keys of what they hold."""

    num_latents: int = 0
    latents_key: str = ""
    num_codes: int = 0
    codes_key: str = ""


NOTHING = Given()


def plan_segments(num_latents: int, config: SegmentConfig, done: int = 0, index: int = 0) -> list[Segment]:
    """Segments of `config.num_latents` latents that overlap and give each latent from `done` on once.

    The last may be shorter; `index` is that of the first.
    """
    segments: list[Segment] = []
    while done < num_latents:
        overlap = min(done, config.overlap)
        start = done - overlap
        done = min(num_latents, start + config.num_latents)
        segments.append(Segment(index + len(segments), start, done, overlap))
    return segments


def plan_jobs(
    scene: Sequence[Shot],
    scene_seed: int,
    settings: Settings,
    config: ModelConfig,
    *,
    digest: str,
    dtype: str,
    fps: int | None = None,
    given: Given = NOTHING,
    first: int = 1,
) -> list[Job]:
    """The segments of a scene with their keys: a key depends on the past and not on the video's length.

    A segment's prompt and settings are those of the shot in its middle. `fps` is what the DiT is told where that is not
    the model's own; codes know of none. What is `given` needs no segments and no spans. `first` is the number, in the
    video, of the scene's first segment.
    """
    ratio, chunk = config.latent_vqvae.ratio[0], config.video_vae.chunk
    common = {
        "method": METHOD,
        "model": digest,
        "dtype": dtype,
        "size": [config.width, config.height],
        "seed": scene_seed,
    }
    unusual: dict[str, float] = {}  # what only stands in keys where it is not as usual
    if settings.reschedule_noise:
        unusual["rescheduled"] = True
    if settings.reuse:
        unusual["reuse"] = settings.reuse
    if fps is not None:
        unusual["fps"] = fps
    jobs: list[Job] = []
    codes_key, latents_key = given.codes_key, given.latents_key
    drafted, done = given.num_codes, given.num_latents
    for stage in stages_of(scene):
        num_latents = chunk.latents(sum(shot.num_frames for shot in stage))
        for segment in plan_segments(num_latents, config.segments, done, len(jobs)):
            spans: tuple[CodeSpan, ...] = ()
            if settings.use_ar:
                spans = tuple(code_spans(stage, drafted, -(-segment.end // ratio), chunk.frames_per_latent * ratio))
                drafted = max(drafted, -(-segment.end // ratio))
                codes_key = artifact_key(kind="codes", parent=codes_key, spans=list(map(astuple, spans)), **common)
            shot = shot_at(stage, (chunk.frames(segment.start) + chunk.frames(segment.end)) // 2)
            noise_seed = scene_seed if shot.seed is None else shot.seed
            if takes := settings.redo.count(first + segment.index):
                noise_seed = derived_seed(noise_seed, "redo", takes)
            num_steps = settings.num_steps if shot.num_steps is None else shot.num_steps
            guidance_scale = settings.guidance_scale if shot.guidance_scale is None else shot.guidance_scale
            latents_key = artifact_key(
                kind="latents",
                parent=latents_key,
                codes=codes_key,
                prompt=shot.prompt,
                place=[segment.index, segment.start, segment.end, segment.overlap],
                noise=noise_seed,
                steps=num_steps,
                guidance=guidance_scale,
                ar=settings.use_ar,
                **unusual,
                **common,
            )
            jobs.append(
                Job(
                    segment,
                    shot.prompt,
                    noise_seed,
                    num_steps,
                    guidance_scale,
                    spans,
                    codes_key,
                    latents_key,
                    settings.reschedule_noise,
                    settings.reuse,
                )
            )
        done = max(done, num_latents)
    return jobs


def code_spans(scene: Sequence[Shot], start: int, end: int, frames_per_code: float) -> list[CodeSpan]:
    """The code frames [start, end) by shot; a shot begins at the code frame nearest to its first frame."""
    spans = []
    shot_start = first_frame = 0
    for number, shot in enumerate(scene):
        first_frame += shot.num_frames
        shot_end = end if number == len(scene) - 1 else min(end, round(first_frame / frames_per_code))
        low = max(start, shot_start)
        if shot_end > low:
            before = scene[number - 1].prompt if number and scene[number - 1].prompt != shot.prompt else None
            spans.append(CodeSpan(shot.prompt, shot_start, low, shot_end - low, shot.seed, before))
        shot_start = round(first_frame / frames_per_code)
    return spans


def shot_at(scene: Sequence[Shot], frame: int) -> Shot:
    """The shot that a frame lies in; past the end, the last."""
    end = 0
    for shot in scene:
        end += shot.num_frames
        if frame < end:
            return shot
    return scene[-1]


def derived_seed(*parts: object) -> int:
    """A seed for one purpose, from the user's seed and what tells the purpose apart."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")
