"""From the prompts of segments to their latents, by codes and F: scene by scene, or several videos side by side."""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import replace
from itertools import zip_longest

import torch
from torch import Tensor

from arlon_cli.config import ModelConfig
from arlon_cli.errors import ArlonError
from arlon_cli.models.device import finish_work
from arlon_cli.pipeline.denoising import Request, denoise, pass_of
from arlon_cli.pipeline.drafting import Texts, draft_spans, ranking_by
from arlon_cli.pipeline.parts import Parts
from arlon_cli.pipeline.progress import Run
from arlon_cli.pipeline.reference import Reference
from arlon_cli.pipeline.segments import Job
from arlon_cli.sampling.hold import Hold
from arlon_cli.storage.store import Store


class Scene:
    """A scene in the making: its jobs from `first` on, and the codes and latents that they have come to so far.

    What is needed of the jobs before `first` is in the store.
    """

    def __init__(
        self,
        config: ModelConfig,
        jobs: Sequence[Job],
        seed: int,
        use_ar: bool,
        reference: Reference,
        first: int = 0,
    ) -> None:
        self.config, self.jobs, self.seed, self.use_ar = config, jobs[first:], seed, use_ar
        if (codes := reference.codes) is None:
            codes = torch.empty(0, config.ar.code_height, config.ar.code_width, dtype=torch.long)
        self.codes = codes
        self.undrafted = list(jobs[:first])  # jobs whose code frames `codes` lacks
        self.recent = None if first else reference.latents  # the latest, as many as a segment may overlap

    def append(self, new: Tensor) -> None:
        """Take in the new latents (1, C, T, H, W) of the next segment."""
        recent = new if self.recent is None else torch.cat([self.recent, new], dim=2)
        self.recent = recent[:, :, max(0, recent.shape[2] - self.config.segments.overlap) :].contiguous()


class Renderer:
    """Makes the codes and latents of scenes, or finds them in the store, and reports to a run."""

    def __init__(
        self, parts: Parts, store: Store, config: ModelConfig, texts: Texts, run: Run, ahead: set[str]
    ) -> None:
        self.parts, self.store, self.config, self.texts, self.run = parts, store, config, texts, run
        self.ahead = ahead  # keys of latents that `fill_store` made, which nobody finds by chance

    def latents(self, scene: Scene) -> Iterator[Tensor]:
        """The latents (1, C, T, H, W) of a scene: those given, then the new ones of each segment."""
        if scene.recent is not None:
            yield scene.recent
        for job in scene.jobs:
            (new,) = self._segments([(scene, job)])
            self.run.report("decode")
            yield new

    def fill_store(self, videos: Sequence[Sequence[Scene]]) -> None:
        """Make the latents that the store lacks of several videos, of a segment of each in the same passes of the DiT.

        A pass is over all that the plan has for it, also where some are stored: how results are rounded hangs on how
        many they are, and a run that was stopped is to give the same.
        """
        plans = [[(scene, job) for scene in scenes for job in scene.jobs] for scenes in videos]
        for segments in zip_longest(*plans):
            passes: dict[Hashable, list[tuple[Scene, Job]]] = {}
            for scene, job in filter(None, segments):
                passes.setdefault((scene.use_ar, pass_of(job)), []).append((scene, job))
            for together in passes.values():
                keys = [job.latents_key for _, job in together]
                self.ahead.update(key for key in keys if not self.store.has("latents", key))
                for new in self._segments(together):
                    self.run.pass_by(self.config.video_vae.chunk.frames(new.shape[2]))

    def codes(self, job: Job, past: Tensor, seed: int) -> Tensor:
        """The codes (n, h, w) of a scene: `past`, and those that the job adds, from the store or drafted now."""
        if not job.spans:
            return past
        stored = self.store.read("codes", job.codes_key)
        if stored is None:
            self.run.report("draft")
            ranking = None
            if self.config.ranker is not None:  # before the larger part, which would rest then
                ranking = ranking_by(self.parts.ranker, self.parts.latent_vqvae)
            hold = Hold(self.parts.latent_vqvae.codebook.float(), self.config.sampling.ar_hold)
            drafted = draft_spans(self.parts.ar, self.texts, job.spans, past, seed, self.config.sampling, ranking, hold)
            stored = {"codes": drafted.to(torch.int32)}
            self.store.write("codes", job.codes_key, stored)
        return torch.cat([past, stored["codes"].long()])

    def denoise(self, requests: Sequence[Request]) -> list[Tensor]:
        """The new latents (1, C, T, H, W) of segments, on the CPU; each step is one pass over all of them."""
        dit = self.parts.dit  # on the device before the stage begins
        self.run.num_steps = requests[0].job.num_steps
        self.run.report("denoise")
        with torch.inference_mode():
            for step, x_t in enumerate(denoise(dit, self.config, requests), start=1):
                z = x_t
                finish_work(self.parts.device)  # or it would be told of steps that are still to be made
                self.run.report("denoise", step)
            rows = z.float().cpu().split(1)
        made = []
        for row, request in zip(rows, requests, strict=True):
            segment = request.job.segment
            if not bool(torch.isfinite(row).all()):
                raise ArlonError(
                    f"Segment {segment.index + 1} came out as not a number; try --dtype float32 or a lower --guidance."
                )
            made.append(row[:, :, segment.overlap :].contiguous())  # as from the store: bfloat16 rounds by the strides
        return made

    def _segments(self, segments: Sequence[tuple[Scene, Job]]) -> list[Tensor]:
        """The new latents (1, C, T, H, W) of the next segment of each scene, stored or denoised in the same passes."""
        begun = [self._begin(scene, job) for scene, job in segments]
        latents = self._filled(begun, [job for _, job in segments])
        for (scene, job), item, new in zip(segments, begun, latents, strict=True):
            scene.append(new)
            if isinstance(item, Request):
                self._keep(scene, job, new)
        return latents

    def _begin(self, scene: Scene, job: Job) -> Tensor | Request:
        """The stored latents (1, C, T, H, W) of a scene's next segment, or else what it takes to denoise it."""
        self.run.segment += 1
        scene.undrafted.append(job)
        stored = self.store.read("latents", job.latents_key)
        if stored is not None:
            if job.latents_key not in self.ahead:
                self.run.report("stored")
            return stored["latents"]
        overlap, condition = job.segment.overlap, None
        if overlap and (scene.recent is None or scene.recent.shape[2] < overlap):
            raise ArlonError(f"The store lost what segment {job.segment.index + 1} goes on from; start again.")
        if scene.use_ar:
            for earlier in scene.undrafted:
                scene.codes = self.codes(earlier, scene.codes, scene.seed)
            scene.undrafted.clear()
            with torch.inference_mode():
                condition = self.parts.latent_vqvae.decode_between(
                    scene.codes[None].to(self.parts.device), job.segment.start, job.segment.end
                ).float()
        return Request(job, self.texts[job.prompt], condition, scene.recent)

    def _filled(self, begun: Sequence[Tensor | Request], jobs: Sequence[Job]) -> list[Tensor]:
        """Latents (1, C, T, H, W) of the next segments, which are of `jobs`, denoised where they are asked for.

        What is there already has its row in the pass too, of any of the requests but with its own text: passes stay
        as wide, and see as many words.
        """
        requests = [item for item in begun if isinstance(item, Request)]
        if not requests:
            return [item for item in begun if isinstance(item, Tensor)]
        filling = [
            item if isinstance(item, Request) else replace(requests[0], text=self.texts[job.prompt])
            for item, job in zip(begun, jobs, strict=True)
        ]
        rows = self._within_memory(filling)
        return [row if isinstance(item, Request) else item for item, row in zip(begun, rows, strict=True)]

    def _within_memory(self, requests: Sequence[Request]) -> list[Tensor]:
        """What `denoise` makes of requests, of fewer at once where memory does not allow all."""
        made: list[Tensor] = []
        most = len(requests)
        while len(made) < len(requests):
            together = requests[len(made) :][:most]
            try:
                made += self.denoise(together)
            except torch.OutOfMemoryError:
                if len(together) == 1:
                    raise
                most = len(together) // 2
        return made

    def _keep(self, scene: Scene, job: Job, new: Tensor) -> None:
        """Store new latents; where they are too few to go on from by themselves, with those before them."""
        tensors = {"latents": new}
        if scene.recent is not None and new.shape[2] < scene.recent.shape[2]:
            tensors["recent"] = scene.recent
        self.store.write("latents", job.latents_key, tensors)
