"""What the stages of a recipe share: how much they make at a time, and how each is planned, trained and kept."""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from arlon_cli.config import ModelConfig
from arlon_cli.dioramas import COUNTED
from arlon_cli.models.device import finish_work
from arlon_cli.presets import DIORAMA
from arlon_cli.storage.checkpoint import Checkpoint
from arlon_cli.storage.partial import write_whole
from arlon_cli.training.budget import Budget
from arlon_cli.training.clips import ClipKind
from arlon_cli.training.data import PixelCrops
from arlon_cli.training.loop import Interrupted, LoopSettings, Loss, steps_within, train
from arlon_cli.training.start import RATE_ON, Part, starting_part


@dataclass(frozen=True)
class Scale:
    """How much of what is made at a time, by device.

    The video VAE starts from patches of `patch_scenes`, and its latents' statistics are those of `statistics_scenes`.
    `ar_frames`, `ranked_frames` and `dit_frames` are code and latent frames a step.

    `clips` are of whole scenes, `starts` of a draft's first code frame, `subjects` of that where some are counted,
    `changes` of a change of state after a code frame. The `most` of each count scenes, those of `pictures` too.
    """

    crops: PixelCrops
    patch_scenes: int
    statistics_scenes: int
    clips: ClipKind
    most_clips: int
    starts: ClipKind
    most_starts: int
    subjects: ClipKind
    most_subjects: int
    changes: ClipKind
    most_changes: int
    captions: int
    vqvae_clips: int
    ar_frames: int
    ranked_frames: int
    dit_frames: int
    pictures: int
    most_pictures: int


CPU = Scale(
    PixelCrops(scenes=2, crops=4, size=64, num_frames=16, image_size=DIORAMA.height),
    patch_scenes=160,
    statistics_scenes=64,
    clips=ClipKind(160, 160),
    most_clips=4096,
    starts=ClipKind(160, 8),
    most_starts=32768,
    subjects=ClipKind(160, 8, families=COUNTED),
    most_subjects=32768,
    changes=ClipKind(160, 56, lead=8),
    most_changes=8192,
    captions=48,
    vqvae_clips=1,
    ar_frames=48,
    ranked_frames=128,
    dit_frames=48,
    pictures=32,
    most_pictures=4096,
)
GPU = Scale(
    PixelCrops(scenes=4, crops=16, size=64, num_frames=16, image_size=DIORAMA.height),
    patch_scenes=160,
    statistics_scenes=64,
    clips=ClipKind(256, 256),
    most_clips=16384,
    starts=ClipKind(256, 8),
    most_starts=131072,
    subjects=ClipKind(256, 8, families=COUNTED),
    most_subjects=65536,
    changes=ClipKind(256, 56, lead=8),
    most_changes=16384,
    captions=256,
    vqvae_clips=64,
    ar_frames=1024,
    ranked_frames=1024,
    dit_frames=768,
    pictures=256,
    most_pictures=16384,
)


def scale_of(device: torch.device) -> Scale:
    """What a device manages."""
    return GPU if device.type == "cuda" else CPU


@dataclass
class Run:
    """What the stages share: `parts` are to be trained, from those of `start` if there is one.

    With `new_codes`, codes of its latent VQ-VAEs become others.
    """

    folder: Path
    parts: frozenset[str]
    start: Checkpoint | None
    config: ModelConfig
    scale: Scale
    device: torch.device
    precision: torch.dtype
    seed: int
    budget: Budget
    on_event: Callable[[str], None]
    stop: Callable[[], bool]
    new_codes: bool = False

    def learns(self, *parts: str) -> bool:
        """Whether one of these parts is to be trained."""
        return not self.parts.isdisjoint(parts)

    def goes_on(self, part: str) -> bool:
        """Whether a part begins as another run left it."""
        return self.start is not None and self.start.has(part)

    def kept(self, part: str) -> nn.Module:
        """A part that stays as it is. Raises CheckpointError where `start` has none."""
        assert self.start is not None
        return self.start.load(part, self.device, torch.float32)

    def begin(self, part: str, make: Callable[[], Part]) -> Part:
        """A part to be trained, that of `start` or a new one."""
        torch.manual_seed(self.seed)
        return starting_part(part, self.start if self.goes_on(part) else None, make).to(self.device)

    def rate(self, part: str, learning_rate: float) -> float:
        """The peak learning rate of a part: a new one's, or less for one that learns on."""
        return learning_rate * RATE_ON if self.goes_on(part) else learning_rate

    def finished(self, stage: str) -> dict[str, Tensor] | None:
        """The weights of a stage that is done."""
        file = self.folder / stage / "trained.safetensors"
        return load_file(file, device=str(self.device)) if file.exists() else None

    def begun(self, stage: str) -> bool:
        """Whether there is something of a stage to go on from."""
        return any((self.folder / stage / name).exists() for name in ("state.safetensors", "trained.safetensors"))

    def plan(
        self,
        stage: str,
        module: nn.Module,
        batch_at: Callable[[int], Any],
        loss: Loss,
        after_trial: Callable[[], None] = lambda: None,
    ) -> int:
        """How many steps the stage takes: as many as fit into its share of the budget, settled once.

        What `loss` keeps of the steps that tell how long one takes, `after_trial` is to drop behind each of them.
        Raises Interrupted where it was to stop before it knew.
        """
        if stage not in self.budget.steps:
            seconds = self.budget.allowance(stage)
            numbers = itertools.count()

            def step() -> None:
                if self.stop():
                    raise Interrupted
                batch = batch_at(next(numbers))
                with torch.autocast(self.device.type, dtype=self.precision, enabled=self.precision != torch.float32):
                    value, _ = loss(batch)
                value.backward()
                module.zero_grad(set_to_none=True)
                after_trial()

            module.train()
            with self.budget.stage(stage):
                steps = steps_within(seconds, step, lambda: finish_work(self.device))
                steps = int(0.92 * steps)  # the optimizer and the averages also work
            self.budget.plan(stage, steps)
            self.on_event(f"{stage}: {steps} steps in about {seconds / 60:.1f} minutes")
        return self.budget.steps[stage]

    def fit(
        self,
        stage: str,
        module: nn.Module,
        batch_at: Callable[[int], Any],
        loss: Loss,
        *,
        learning_rate: float,
        weight_decay: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.99),
        matrix_rate: float | None = None,
        after_trial: Callable[[], None] = lambda: None,
        **loop: Any,
    ) -> None:
        """Train `module` for as long as planned, or load what an earlier run left; it is frozen afterwards."""
        weights = self.finished(stage)
        if weights is None:
            num_steps = self.plan(stage, module, batch_at, loss, after_trial)
            with self.budget.stage(stage):
                trained = train(
                    module,
                    batch_at,
                    loss,
                    LoopSettings.usual(learning_rate, weight_decay, num_steps, self.seed, betas, matrix_rate),
                    num_steps=num_steps,
                    folder=self.folder / stage,
                    precision=self.precision,
                    on_step=lambda step, metrics: self._report(stage, step, num_steps, metrics),
                    stop=self.stop,
                    **loop,
                )
            if trained is None:
                raise Interrupted
            weights = {name: value.contiguous() for name, value in trained.weights.items()}
            write_whole(self.folder / stage / "trained.safetensors", save(weights))
        module.load_state_dict(weights)
        module.eval().requires_grad_(False)

    def _report(self, stage: str, step: int, of: int, metrics: Mapping[str, float]) -> None:
        if step % 100 == 0 or step == of:
            values = ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
            self.on_event(f"{stage} {step}/{of}: {values}")
