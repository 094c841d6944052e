"""From shots to frames: text, codes, segments, conditions, latents, pixels, each stage a generator."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import islice, repeat
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor, nn

from arlon_cli import __version__
from arlon_cli.config import DECODED_LATENTS, ModelConfig, PublishedT5Config
from arlon_cli.errors import InputError
from arlon_cli.models.text_encoder import TextEncoder
from arlon_cli.pipeline.compiling import compile_method
from arlon_cli.pipeline.drafting import Texts
from arlon_cli.pipeline.parts import Parts
from arlon_cli.pipeline.progress import Progress, Run
from arlon_cli.pipeline.reference import NO_REFERENCE, Reference
from arlon_cli.pipeline.rendering import Renderer, Scene
from arlon_cli.pipeline.segments import Job, Settings, derived_seed, plan_jobs
from arlon_cli.pipeline.shots import Shot, scenes_of
from arlon_cli.storage.checkpoint import Checkpoint
from arlon_cli.storage.metadata import ShotRecord, VideoMetadata
from arlon_cli.storage.store import Store, artifact_key

if TYPE_CHECKING:
    from arlon_cli.models.published_t5 import PublishedT5  # needs transformers, which takes seconds to import

_ENCODED_CHUNKS = 4  # chunks of frames that it is given at once
_RENDERING = ("text_encoder", "video_vae", "dit")
_DRAFTING = ("latent_vqvae", "ar", "injection")


class Pipeline:
    """Renders shots with the model of a checkpoint, at its own size and rate or those of `config`, else the same.

    Parts are loaded when they are first needed; with `offload`, large ones leave the device while others work. With
    `compile_parts`, `torch.compile` makes kernels of the AR Transformer's step and of the DiT, which takes minutes and
    is worth it for many long videos, or many steps.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        device: torch.device,
        dtype: torch.dtype,
        store: Store,
        config: ModelConfig | None = None,
        offload: bool = False,
        compile_parts: bool = False,
        on_progress: Callable[[Progress], None] = lambda progress: None,
        on_warning: Callable[[str], None] = lambda message: None,
    ) -> None:
        self.checkpoint, self.config = checkpoint, config or checkpoint.config
        self.device, self.dtype, self.store = device, dtype, store
        self.on_progress, self.on_warning = on_progress, on_warning
        self.compile_parts = compile_parts
        self.parts = Parts(checkpoint, device, dtype, offload=offload, prepare=self._prepare)
        self._texts: dict[str, tuple[Tensor, Tensor]] = {}
        self._ahead: set[str] = set()

    def _prepare(self, name: str, part: nn.Module) -> None:
        if self.compile_parts and name == "dit":
            compile_method(part, "forward", self.on_warning)
        elif self.compile_parts and name == "ar":
            compile_method(part, "step", self.on_warning, dynamic=True)

    def check(self, use_ar: bool) -> None:
        """Raises CheckpointError where the model lacks a part that rendering needs, InputError where none fits."""
        own = self.checkpoint.config
        if use_ar and (self.config.width, self.config.height) != (own.width, own.height):
            raise InputError(
                f"{own.name} drafts codes for {own.width}x{own.height} alone; "
                f"{self.config.width}x{self.config.height} needs --no-ar."
            )
        self.checkpoint.check(*_RENDERING, *(_DRAFTING if use_ar else ()))

    def plan(self, shots: Sequence[Shot], settings: Settings, reference: Reference = NO_REFERENCE) -> list[list[Job]]:
        """The segments of each scene, with their keys; the first scene starts with what the reference gives.

        Raises InputError where `redo` names a segment too many.
        """
        plan: list[list[Job]] = []
        for number, scene in enumerate(scenes_of(shots)):
            jobs = plan_jobs(
                scene,
                _scene_seed(settings, number, reference),
                settings,
                self.config,
                digest=self.checkpoint.digest,
                dtype=str(self.dtype).removeprefix("torch."),
                fps=None if self.config.fps == self.checkpoint.config.fps else self.config.fps,
                given=NO_REFERENCE.given if number else reference.given,
                first=1 + sum(map(len, plan)),
            )
            plan.append(jobs)
        num_segments = sum(map(len, plan))
        if wrong := [number for number in settings.redo if not 1 <= number <= num_segments]:
            raise InputError(f"There is no segment {wrong[0]} to redo; the video has {num_segments}.")
        return plan

    def metadata(self, shots: Sequence[Shot], settings: Settings, reference: Reference = NO_REFERENCE) -> VideoMetadata:
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
            last_latents=self.last_latents(shots, settings, reference),
            num_frames=sum(shot.num_frames for shot in shots),
            redo=settings.redo,
            reuse=settings.reuse,
        )

    def last_latents(self, shots: Sequence[Shot], settings: Settings, reference: Reference = NO_REFERENCE) -> str:
        """The key of the last segment; "" where nothing was to render."""
        jobs = self.plan(shots, settings, reference)[-1]
        return jobs[-1].latents_key if jobs else ""

    def frames(
        self,
        shots: Sequence[Shot],
        settings: Settings,
        reference: Reference = NO_REFERENCE,
        *,
        first_frame: int = 0,
    ) -> Iterator[np.ndarray]:
        """Frames of the video from `first_frame` on, in chunks (n, H, W, 3) uint8, rendered as they are asked for.

        Before `first_frame`, only what is needed to go on from there is read from the store, or else rendered.
        """
        self.check(settings.use_ar)
        scenes = []  # (number, jobs, first job to run, frames of the scene before it, wanted frames of the scene)
        passed = 0
        plan = self.plan(shots, settings, reference)
        for number, (scene, jobs) in enumerate(zip(scenes_of(shots), plan, strict=True)):
            length = sum(shot.num_frames for shot in scene)
            wanted = range(max(0, first_frame - passed), length)
            passed += length
            if wanted:
                first = self._first_job(jobs, wanted.start)
                start = self.config.video_vae.chunk.frames(jobs[first - 1].segment.end) if first else 0
                scenes.append((number, jobs, first, start, wanted))
        num_segments = sum(len(jobs) - first for _, jobs, first, _, _ in scenes)
        run = Run(self.on_progress, num_segments, passed - first_frame, settings.num_steps)
        renderer = self._renderer([shot.prompt for shot in shots], run)
        for number, jobs, first, start, wanted in scenes:
            latents = renderer.latents(self._scene(jobs, number, settings, reference, first))
            yield from run.count(_between(self.decode(latents), wanted.start - start, wanted.stop - start))

    def _first_job(self, jobs: Sequence[Job], frame: int) -> int:
        """The job to begin with for the frames from `frame` on, early enough for what decoding and overlaps look at.

        It is the scene's first one, or begins with a chunk of the video VAE.
        """
        chunk = self.config.video_vae.chunk
        latent = frame // chunk.num_frames * chunk.num_latents
        if latent == 0:
            return 0
        latent -= self.parts.video_vae.decoder_context
        for number in reversed(range(len(jobs))):
            segment = jobs[number].segment
            if segment.end <= latent and segment.end % chunk.num_latents == 0:
                return number + 1
            if self.store.read("latents", jobs[number].latents_key) is None:
                latent = min(latent, segment.start)
        return 0

    def preview(
        self, shots: Sequence[Shot], settings: Settings, reference: Reference = NO_REFERENCE
    ) -> Iterator[np.ndarray]:
        """Frames of the whole video straight from its codes, in chunks (n, H, W, 3) uint8; none is denoised.

        What it drafts is in the store when `frames` needs it.
        """
        self.check(settings.use_ar)
        plan = self.plan(shots, settings, reference)
        run = Run(self.on_progress, sum(map(len, plan)), sum(shot.num_frames for shot in shots), settings.num_steps)
        renderer = self._renderer([shot.prompt for shot in shots], run)
        for number, (shots_of_scene, jobs) in enumerate(zip(scenes_of(shots), plan, strict=True)):
            scene = self._scene(jobs, number, settings, reference)
            for job in jobs:
                run.segment += 1
                scene.codes = renderer.codes(job, scene.codes, scene.seed)
            frames = self.decode_codes(scene.codes, sum(shot.num_frames for shot in shots_of_scene))
            yield from run.count(frames, "preview")

    def render_ahead(self, videos: Sequence[tuple[Sequence[Shot], Settings, Reference]]) -> None:
        """Put the latents of several videos into the store, where `frames` finds them.

        A pass of the DiT is over a segment of each, as far as memory allows and the segments are alike; on devices that
        one leaves idle, it takes hardly longer.
        """
        planned = []
        for shots, settings, reference in videos:
            self.check(settings.use_ar)
            plan = self.plan(shots, settings, reference)
            planned.append([self._scene(jobs, number, settings, reference) for number, jobs in enumerate(plan)])
        num_segments = sum(len(scene.jobs) for scenes in planned for scene in scenes)
        all_shots = [shot for shots, _, _ in videos for shot in shots]
        run = Run(self.on_progress, num_segments, sum(shot.num_frames for shot in all_shots), num_steps=0)
        self._renderer([shot.prompt for shot in all_shots], run).fill_store(planned)
        keys = [job.latents_key for scenes in planned for scene in scenes for job in scene.jobs]
        if not all(self.store.has("latents", key) for key in keys):
            self.on_warning("The store is too small for so many together; what it lost is rendered again.")

    def _renderer(self, prompts: Sequence[str], run: Run) -> Renderer:
        run.report("text")
        return Renderer(self.parts, self.store, self.config, self.encode_prompts(prompts), run, self._ahead)

    def _scene(
        self, jobs: Sequence[Job], number: int, settings: Settings, reference: Reference, first: int = 0
    ) -> Scene:
        """A scene of a video, by its number; what is given is the first one's."""
        seed = _scene_seed(settings, number, reference)
        return Scene(self.config, jobs, seed, settings.use_ar, NO_REFERENCE if number else reference, first)

    def encode_prompts(self, prompts: Iterable[str]) -> Texts:
        """Text features of the prompts and of the null prompt, on the CPU; warns of words that the model never saw.

        Each prompt is encoded once, and the text encoder is freed on return: for many videos, ask for all at first.
        What a published one made is in the store, since such encoders are large and warn of no words.
        """
        distinct = list(dict.fromkeys(["", *prompts]))
        keep = isinstance(self.config.text_encoder, PublishedT5Config)
        for prompt in distinct if keep else ():
            if prompt not in self._texts and (stored := self.store.read("texts", self._text_key(prompt))):
                self._texts[prompt] = (stored["text"], stored["mask"])
        if new := [prompt for prompt in distinct if prompt not in self._texts]:
            text_encoder = cast("TextEncoder | PublishedT5", self.parts.use_once("text_encoder"))
            unknown = dict.fromkeys(word for prompt in new for word in text_encoder.unknown_words(prompt))
            if unknown:
                self.on_warning(
                    f"{self.config.name} never saw {'this word' if len(unknown) == 1 else 'these words'}: "
                    f"{', '.join(unknown)}; `arlon models show {self.config.name}` lists what it knows."
                )
            with torch.inference_mode():
                for prompt in new:
                    text, mask = text_encoder.encode([prompt])
                    self._texts[prompt] = (text[0].cpu(), mask[0].cpu())
                    if keep:
                        self.store.write("texts", self._text_key(prompt), {"text": text[0], "mask": mask[0]})
        return {prompt: self._texts[prompt] for prompt in distinct}

    def _text_key(self, prompt: str) -> str:
        return artifact_key(
            kind="text", model=self.checkpoint.part_digest("text_encoder"), dtype=str(self.dtype), prompt=prompt
        )

    def encode(self, frames: Iterable[np.ndarray]) -> Iterator[Tensor]:
        """Latents (1, C, T, H, W) of consecutive frames (H, W, 3) uint8, in chunks; on the CPU, in single precision.

        The last frame is repeated where it takes more for a whole latent.
        """
        pixels = self.parts.feed("video_vae", self._pixels(frames))
        for latents in self.parts.video_vae.encode_stream(pixels):
            yield latents.float().cpu()

    def encode_codes(self, frames: Iterable[np.ndarray]) -> tuple[Tensor, int]:
        """Codes (t, h, w) on the CPU of consecutive frames (H, W, 3) uint8, and the number of these; one at least.

        The last frame is repeated to a whole chunk of the video VAE.
        """
        self.checkpoint.check("video_vae", "latent_vqvae")
        num_frames = 0

        def counted() -> Iterator[np.ndarray]:
            nonlocal num_frames
            for frame in frames:
                num_frames += 1
                yield frame
            yield from repeat(frame, -num_frames % self.config.video_vae.chunk.num_frames)

        latents = (chunk.to(self.device, self.dtype) for chunk in self.encode(counted()))
        codes = torch.cat([codes[0].cpu() for codes in self.parts.latent_vqvae.encode_stream(latents)])
        return codes, num_frames

    def decode_codes(self, codes: Tensor, num_frames: int) -> Iterator[np.ndarray]:
        """The coarse frames that codes (t, h, w) alone stand for, the first `num_frames`, as `decode` yields them."""
        self.checkpoint.check("video_vae", "latent_vqvae")
        conditions = self.parts.latent_vqvae.decode_stream(codes[None].to(self.device))
        yield from _between(self.decode(conditions), 0, num_frames)

    def reference_of(self, frames: Iterable[np.ndarray], use_ar: bool) -> Reference:
        """The reference that lets a video start with frames (H, W, 3) uint8."""
        self.check(use_ar)
        return self.going_on(torch.cat(list(self.encode(frames)), dim=2), use_ar)

    def going_on(self, latents: Tensor, use_ar: bool) -> Reference:
        """The reference that lets a video go on from latents (1, C, T, H, W), with their codes where codes are used."""
        if not use_ar:
            return Reference(latents)
        with torch.inference_mode():
            codes = self.parts.latent_vqvae.encode(latents.to(self.device, self.dtype))[0].cpu()
        return Reference(latents, codes)

    def _pixels(self, frames: Iterable[np.ndarray]) -> Iterator[Tensor]:
        """Frames (H, W, 3) as chunks of pixels (1, 3, T, H, W), T those of whole latents."""
        chunk = self.config.video_vae.chunk
        remaining = iter(frames)
        while some := list(islice(remaining, _ENCODED_CHUNKS * chunk.num_frames)):
            filled = np.stack([*some, *repeat(some[-1], chunk.filled(len(some)) - len(some))])
            pixels = torch.from_numpy(filled).to(self.device).permute(3, 0, 1, 2)[None]  # (1, 3, T, H, W)
            yield (pixels.to(torch.float32) / 127.5 - 1).to(self.dtype)

    def decode(self, latents: Iterable[Tensor]) -> Iterator[np.ndarray]:
        """Frames (n, H, W, 3) uint8 of consecutive latents of one scene, in chunks, without seams."""
        chunks = (chunk.to(self.device, self.dtype) for new in latents for chunk in new.split(DECODED_LATENTS, dim=2))
        for pixels in self.parts.video_vae.decode_stream(self.parts.feed("video_vae", chunks)):
            frames = ((pixels[0].float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)  # (3, T, H, W)
            yield frames.permute(1, 2, 3, 0).cpu().numpy()


def _between(chunks: Iterable[np.ndarray], start: int, stop: int) -> Iterator[np.ndarray]:
    """The frames [start, stop) of chunks."""
    passed = 0
    for frames in chunks:
        wanted = frames[max(0, start - passed) : stop - passed]
        passed += len(frames)
        if len(wanted):
            yield wanted
        if passed >= stop:
            return


def _scene_seed(settings: Settings, number: int, reference: Reference) -> int:
    """A scene's seed; what goes on from given latents takes other noise each time."""
    if number:
        return derived_seed(settings.seed, "scene", number)
    if reference.latents is not None:
        return derived_seed(settings.seed, "given", reference.given.latents_key)
    return settings.seed
