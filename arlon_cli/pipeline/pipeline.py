"""From shots to frames: text, codes, segments, conditions, latents, pixels, each stage a generator."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import cast

import numpy as np
import torch
from torch import Tensor

from arlon_cli import __version__
from arlon_cli.config import ModelConfig
from arlon_cli.errors import ArlonError, InputError
from arlon_cli.models.ar_transformer import ARTransformer
from arlon_cli.models.latent_vqvae import LatentVQVAE
from arlon_cli.models.stdit import STDiT3
from arlon_cli.models.text_encoder import TextEncoder
from arlon_cli.models.video_vae import VideoVAE
from arlon_cli.pipeline.condition import Texts, decode_condition, draft_spans
from arlon_cli.pipeline.segments import Job, Settings, derived_seed, plan_jobs
from arlon_cli.pipeline.shots import Shot, scenes_of
from arlon_cli.sampling.rectified_flow import NUM_TIMESTEPS, RectifiedFlow
from arlon_cli.storage.checkpoint import Checkpoint
from arlon_cli.storage.metadata import ShotRecord, VideoMetadata
from arlon_cli.storage.store import Store, artifact_key

_DECODED_LATENTS = 4  # latent frames that the video VAE decodes at once


@dataclass(frozen=True)
class Progress:
    """Where a run is: `stage` is `text`, `draft`, `preview`, `denoise`, `decode` or `stored` (found in the store).

    Segments count from 1 over the whole video; `num_frames` are done.
    """

    stage: str
    segment: int
    num_segments: int
    step: int
    num_steps: int
    num_frames: int
    total_frames: int


class Pipeline:
    """Renders shots with the model of a checkpoint. Parts are loaded when they are first needed."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        device: torch.device,
        dtype: torch.dtype,
        store: Store,
        on_progress: Callable[[Progress], None] = lambda progress: None,
        on_warning: Callable[[str], None] = lambda message: None,
    ) -> None:
        self.checkpoint, self.config = checkpoint, checkpoint.config
        self.device, self.dtype, self.store = device, dtype, store
        self.on_progress, self.on_warning = on_progress, on_warning
        self._texts: dict[str, tuple[Tensor, Tensor]] = {}

    def plan(self, shots: Sequence[Shot], settings: Settings) -> list[list[Job]]:
        """The segments of each scene, with their keys. Raises InputError where `redo` names a segment too many."""
        plan: list[list[Job]] = []
        for number, scene in enumerate(scenes_of(shots)):
            jobs = plan_jobs(
                scene,
                settings.seed if number == 0 else derived_seed(settings.seed, "scene", number),
                settings,
                self.config,
                digest=self.checkpoint.digest,
                dtype=str(self.dtype).removeprefix("torch."),
                first=1 + sum(map(len, plan)),
            )
            plan.append(jobs)
        num_segments = sum(map(len, plan))
        if wrong := [number for number in settings.redo if not 1 <= number <= num_segments]:
            raise InputError(f"There is no segment {wrong[0]} to redo; the video has {num_segments}.")
        return plan

    def metadata(self, shots: Sequence[Shot], settings: Settings) -> VideoMetadata:
        """What a video of these shots is to say about its making."""
        return VideoMetadata(
            version=__version__,
            model=self.config.name,
            model_digest=self.checkpoint.digest,
            shots=tuple(ShotRecord(**asdict(shot)) for shot in shots),
            seed=settings.seed,
            num_steps=settings.num_steps,
            guidance_scale=settings.guidance_scale,
            use_ar=settings.use_ar,
            width=self.config.width,
            height=self.config.height,
            fps=self.config.fps,
            dtype=str(self.dtype).removeprefix("torch."),
            last_latents=self.plan(shots, settings)[-1][-1].latents_key,
            redo=settings.redo,
        )

    def frames(self, shots: Sequence[Shot], settings: Settings) -> Iterator[np.ndarray]:
        """Frames of the whole video in chunks (n, H, W, 3) uint8, rendered as they are asked for."""
        plan = self.plan(shots, settings)
        run = _Run(self.on_progress, sum(map(len, plan)), sum(shot.num_frames for shot in shots), settings.num_steps)
        run.report("text")
        texts = self.encode_prompts([shot.prompt for shot in shots])
        for number, (scene, jobs) in enumerate(zip(scenes_of(shots), plan, strict=True)):
            seed = settings.seed if number == 0 else derived_seed(settings.seed, "scene", number)
            latents = self.render(jobs, texts, seed, settings, run)
            yield from run.count(_first(self.decode(latents), sum(shot.num_frames for shot in scene)))

    def preview(self, shots: Sequence[Shot], settings: Settings) -> Iterator[np.ndarray]:
        """Frames of the whole video straight from its codes, in chunks (n, H, W, 3) uint8; none is denoised.

        What it drafts is in the store when `frames` needs it.
        """
        plan = self.plan(shots, settings)
        run = _Run(self.on_progress, sum(map(len, plan)), sum(shot.num_frames for shot in shots), settings.num_steps)
        run.report("text")
        texts = self.encode_prompts([shot.prompt for shot in shots])
        for number, (scene, jobs) in enumerate(zip(scenes_of(shots), plan, strict=True)):
            seed = settings.seed if number == 0 else derived_seed(settings.seed, "scene", number)
            conditions = self.conditions(jobs, texts, seed, run)
            for frames in _first(self.decode(conditions), sum(shot.num_frames for shot in scene)):
                yield frames
                run.num_frames += len(frames)
                run.report("preview")

    def conditions(self, jobs: Sequence[Job], texts: Texts, seed: int, run: "_Run") -> Iterator[Tensor]:
        """The new part of F (1, C, T, H, W) of each segment of a scene, its codes from the store or drafted now."""
        config = self.config
        codes = torch.empty(0, config.ar.code_height, config.ar.code_width, dtype=torch.long)
        for job in jobs:
            run.segment += 1
            codes = torch.cat([codes, self.codes(job, codes, texts, seed, run)])
            with torch.inference_mode():
                condition = decode_condition(self.latent_vqvae, codes, job.segment, self.device)
            yield condition[:, :, job.segment.overlap :]

    def encode_prompts(self, prompts: Iterable[str]) -> Texts:
        """Text features of the prompts and of the null prompt; warns of words that the model never saw.

        Each prompt is encoded once, and the text encoder is freed on return: for many videos, ask for all at first.
        """
        distinct = list(dict.fromkeys(["", *prompts]))
        if new := [prompt for prompt in distinct if prompt not in self._texts]:
            text_encoder = cast(TextEncoder, self._load("text_encoder"))
            unknown = dict.fromkeys(word for prompt in new for word in text_encoder.unknown_words(prompt))
            if unknown:
                self.on_warning(
                    f"{self.config.name} never saw {'this word' if len(unknown) == 1 else 'these words'}: "
                    f"{', '.join(unknown)}; `arlon models show {self.config.name}` lists what it knows."
                )
            with torch.inference_mode():
                for prompt in new:
                    text, mask = text_encoder.encode([prompt])
                    self._texts[prompt] = (text[0], mask[0])
        return {prompt: self._texts[prompt] for prompt in distinct}

    def render(self, jobs: Sequence[Job], texts: Texts, seed: int, settings: Settings, run: "_Run") -> Iterator[Tensor]:
        """The new latents (1, C, T, H, W) of each segment of a scene, from the store or rendered now."""
        config = self.config
        codes = torch.empty(0, config.ar.code_height, config.ar.code_width, dtype=torch.long)
        behind: list[Job] = []  # jobs whose code frames `codes` lacks
        given: Tensor | None = None
        for job in jobs:
            run.segment += 1
            behind.append(job)
            stored = self.store.read("latents", job.latents_key)
            if stored is not None:
                run.report("stored")
                new = stored["latents"]
            else:
                condition = None
                if settings.use_ar:
                    for earlier in behind:
                        codes = torch.cat([codes, self.codes(earlier, codes, texts, seed, run)])
                    behind.clear()
                    with torch.inference_mode():
                        condition = decode_condition(self.latent_vqvae, codes, job.segment, self.device).float()
                new = self.denoise(job, texts, condition, given, run)
                self.store.write("latents", job.latents_key, {"latents": new})
            given = new[:, :, new.shape[2] - config.segments.overlap :]
            run.report("decode")
            yield new

    def codes(self, job: Job, past: Tensor, texts: Texts, seed: int, run: "_Run") -> Tensor:
        """The codes (n, h, w) that the job adds to its scene's `past`, from the store or drafted now."""
        if not job.spans:
            return past[:0]
        stored = self.store.read("codes", job.codes_key)
        if stored is None:
            run.report("draft")
            stored = {"codes": draft_spans(self.ar, texts, job.spans, past, seed, self.config.sampling).to(torch.int32)}
            self.store.write("codes", job.codes_key, stored)
        return stored["codes"].long()

    def denoise(
        self,
        job: Job,
        texts: Texts,
        condition: Tensor | None,
        given: Tensor | None,
        run: "_Run",
    ) -> Tensor:
        """New latents (1, C, T, H, W) of a segment, on the CPU, from noise, F, and the latents `given` as its first."""
        config, segment = self.config, job.segment
        length = segment.end - segment.start
        noise = segment_noise(config, job.noise_seed, segment.index)[:, :, :length].to(self.device)
        start = NUM_TIMESTEPS if condition is None else config.sampling.start_timestep
        flow = RectifiedFlow()
        if config.sampling.timestep_transform:
            flow = RectifiedFlow.for_video(config.height, config.width, 4 * config.segments.num_latents)
        with torch.inference_mode():
            z = flow.initial(noise, condition, start)
            x_mask = None
            if segment.overlap:
                assert given is not None
                z = torch.cat([given.to(z), z[:, :, segment.overlap :]], dim=2)
                x_mask = (torch.arange(length, device=self.device) >= segment.overlap)[None]
            steps = flow.sample(
                self._network(texts[job.prompt], condition, job.guidance_scale),
                z,
                flow.timesteps(job.num_steps, start),
                guidance_scale=job.guidance_scale,
                x_mask=x_mask,
            )
            run.num_steps = job.num_steps
            run.report("denoise")
            for step, x_t in enumerate(steps, start=1):
                z = x_t
                run.report("denoise", step)
        new = z[:, :, segment.overlap :].float().cpu()
        if not bool(torch.isfinite(new).all()):
            raise ArlonError(
                f"Segment {segment.index + 1} came out as not a number; try --dtype float32 or a lower --guidance."
            )
        return new

    def decode(self, latents: Iterable[Tensor]) -> Iterator[np.ndarray]:
        """Frames (n, H, W, 3) uint8 of consecutive latents of one scene, in chunks, without seams."""
        chunks = (chunk.to(self.device, self.dtype) for new in latents for chunk in new.split(_DECODED_LATENTS, dim=2))
        for pixels in self.video_vae.decode_stream(chunks):
            frames = ((pixels[0].float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)  # (3, T, H, W)
            yield frames.permute(1, 2, 3, 0).cpu().numpy()

    def remember_speed(self, settings: Settings, seconds: float) -> None:
        """Note how long a segment took here with such settings."""
        self.store.write("timings", self._speed_key(settings), {"seconds": torch.tensor([seconds])})

    def remembered_speed(self, settings: Settings) -> float | None:
        """The seconds that a segment took here, with such settings, the last time; None where there was none."""
        noted = self.store.read("timings", self._speed_key(settings))
        return None if noted is None else float(noted["seconds"])

    def _speed_key(self, settings: Settings) -> str:
        return artifact_key(
            model=self.checkpoint.digest,
            device=str(self.device),
            dtype=str(self.dtype),
            steps=settings.num_steps,
            guided=settings.guidance_scale != 1.0,
            ar=settings.use_ar,
        )

    def _network(
        self, text: tuple[Tensor, Tensor], condition: Tensor | None, guidance_scale: float
    ) -> Callable[[Tensor, Tensor, Tensor | None], Tensor]:
        """The DiT as a function of (x_t, timestep, x_mask); with guidance, its second half sees no prompt."""
        dit, config = self.dit, self.config
        features, mask = text[0][None].to(self.device, self.dtype), text[1][None].to(self.device)
        if guidance_scale != 1.0:
            features = torch.cat([features, dit.unconditional_text[None].to(features)])
            mask = torch.cat([mask, torch.ones_like(mask)])
            condition = None if condition is None else torch.cat([condition, condition])
        fps, height, width = (
            torch.tensor([float(value)], device=self.device) for value in (config.fps, config.height, config.width)
        )

        def network(x_t: Tensor, timestep: Tensor, x_mask: Tensor | None) -> Tensor:
            v = dit(
                x_t.to(self.dtype),
                timestep,
                features,
                fps=fps,
                height=height,
                width=width,
                text_mask=mask,
                x_mask=x_mask,
                condition=condition,
            )
            return v[:, : x_t.shape[1]]

        return network

    @cached_property
    def ar(self) -> ARTransformer:
        return cast(ARTransformer, self._load("ar"))

    @cached_property
    def latent_vqvae(self) -> LatentVQVAE:
        return cast(LatentVQVAE, self._load("latent_vqvae"))

    @cached_property
    def dit(self) -> STDiT3:
        return cast(STDiT3, self._load("dit"))

    @cached_property
    def video_vae(self) -> VideoVAE:
        return cast(VideoVAE, self._load("video_vae"))

    def _load(self, part: str) -> torch.nn.Module:
        return self.checkpoint.load(part, self.device, self.dtype)


@dataclass
class _Run:
    """Counts what a run has done and reports it."""

    on_progress: Callable[[Progress], None]
    num_segments: int
    total_frames: int
    num_steps: int
    segment: int = 0
    num_frames: int = 0

    def report(self, stage: str, step: int = 0) -> None:
        progress = Progress(
            stage, self.segment, self.num_segments, step, self.num_steps, self.num_frames, self.total_frames
        )
        self.on_progress(progress)

    def count(self, chunks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for frames in chunks:
            yield frames
            self.num_frames += len(frames)
            self.report("decode")


def _first(chunks: Iterable[np.ndarray], num_frames: int) -> Iterator[np.ndarray]:
    """The first `num_frames` frames of chunks."""
    for frames in chunks:
        yield frames[:num_frames]
        num_frames -= len(frames)
        if num_frames <= 0:
            return


def segment_noise(config: ModelConfig, seed: int, index: int) -> Tensor:
    """Noise (1, C, T, H, W) of a full segment: on every device the same for (seed, index)."""
    generator = torch.Generator().manual_seed(derived_seed(seed, "segment", index))
    size = (1, config.dit.in_channels, config.segments.num_latents, config.height // 8, config.width // 8)
    return torch.randn(size, generator=generator)
