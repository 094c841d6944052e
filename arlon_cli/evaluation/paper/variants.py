"""Table 3: how codes get into the DiT, and how it is trained to bear with drafted ones."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, cast

from arlon_cli.config import ModelConfig, SemanticInjectionConfig
from arlon_cli.evaluation.flow_loss import Case, flow_cases, flow_loss
from arlon_cli.evaluation.paper.studio import (
    PAINTED,
    WITH_CODES,
    WITHOUT_CODES,
    Studio,
    Take,
    pictures,
)
from arlon_cli.evaluation.report import Cell, Plot, Section, Table
from arlon_cli.evaluation.results import Finding, Row
from arlon_cli.models.stdit import STDiT3
from arlon_cli.storage.checkpoint import Checkpoint

NAME = "table-3"
_NUM_PROMPTS, _SHOWN_PROMPTS = 8, 2
_PAPER_DEPTH = 28
_LOSSES = ("loss, the clip's codes", "loss, drafted codes")
_METRICS = (
    "prompt accuracy",
    "Fréchet distance to real frames",
    "subject consistency proxy",
    "motion smoothness proxy",
    "dynamic degree proxy",
    "movement",
)


@dataclass(frozen=True)
class Variant:
    """A row: F is of the codes of the part `codes` in training; `layers` are so many of the paper's 28, the first ones,
    or the last where it is negative; `fusion` and `noise` as in the configuration."""

    codes: str
    fusion: str
    layers: int
    noise: str

    def places(self, depth: int) -> tuple[int, ...]:
        """Which of `depth` layers are the same share of them, one at least."""
        count = max(1, round(abs(self.layers) * depth / _PAPER_DEPTH))
        return tuple(range(count) if self.layers > 0 else range(depth - count, depth))

    @property
    def key(self) -> dict[str, Any]:
        """What tells its rows from others."""
        return {"mode": WITH_CODES, "variant": f"{self.codes} {self.fusion} {self.layers} {self.noise}"}

    def told(self, config: ModelConfig) -> list[Cell]:
        """Codes in training, fusion, layers and noise in words."""
        ratio = "×".join(map(str, getattr(config, self.codes).ratio))
        end = "first" if self.layers > 0 else "last"
        layers = f"{end} {len(self.places(config.dit.depth))} of {config.dit.depth}"
        return [ratio, _FUSIONS[self.fusion], layers, self.noise]

    def injection(self, config: ModelConfig) -> SemanticInjectionConfig:
        """The injection of a model, in this way; F enters through the layers alone."""
        return replace(
            config.injection,
            layers=self.places(config.dit.depth),
            fusion=self.fusion,
            condition_noise=self.noise,
            add_to_input=False,
        )


_FUSIONS = {"adaptive_norm": "adaptive norm", "controlnet": "ControlNet", "mlp_adapter": "MLP adapter"}
_FINE, _COARSE = "latent_vqvae", "latent_vqvae_coarse"
VARIANTS = (
    Variant(_FINE, "adaptive_norm", 14, "none"),
    Variant(_COARSE, "controlnet", 14, "none"),
    Variant(_COARSE, "mlp_adapter", 14, "none"),
    Variant(_COARSE, "adaptive_norm", 3, "none"),
    Variant(_COARSE, "adaptive_norm", 8, "none"),
    Variant(_COARSE, "adaptive_norm", 14, "none"),
    Variant(_COARSE, "adaptive_norm", 14, "gaussian"),
    Variant(_COARSE, "adaptive_norm", 14, "uncertainty"),
    Variant(_COARSE, "adaptive_norm", -14, "none"),  # of Fig. 6
)
"""In the paper's order"""


def rows(studio: Studio) -> Iterator[Row]:
    """A row for each prompt as painted; then, without codes and for each variant, one of losses and one a prompt."""
    items = studio.items[:_NUM_PROMPTS]
    for index, item in enumerate(items):
        about = {"prompt": index, "frames": studio.clip_frames, "mode": PAINTED}
        yield studio.row(NAME, about, partial(studio.painted, item, studio.clip_frames))
    cases = cache(lambda: flow_cases(Checkpoint(studio.checkpoint), items, studio.seed, studio.device, studio.dtype))
    yield from _measured(studio, {"mode": WITHOUT_CODES}, cases, lambda: studio.checkpoint)
    for variant in VARIANTS:
        about = variant.key | {"training_steps": studio.training_steps}
        train = cache(partial(studio.train, variant.injection(studio.config), variant.codes))
        yield from _measured(studio, about, cases, train)


def _measured(
    studio: Studio, about: dict[str, Any], cases: Callable[[], list[Case]], train: Callable[[], Path]
) -> Iterator[Row]:
    """The rows of the checkpoint that `train` gives, which is only called where one is missing."""
    with_codes = about["mode"] == WITH_CODES
    steps = studio.config.sampling.steps(with_codes)

    def losses() -> Finding:
        dit = cast(STDiT3, Checkpoint(train()).load("dit", studio.device, studio.dtype))
        loss_of = partial(flow_loss, dit, studio.config, cases())
        if not with_codes:
            return Finding(dict.fromkeys(_LOSSES, loss_of(lambda case: None)))
        found = loss_of(lambda case: case.own), loss_of(lambda case: case.drafted)
        return Finding(dict(zip(_LOSSES, found, strict=True)))

    def clip(index: int) -> Finding:
        shots = ((studio.items[index].prompt, studio.clip_frames),)
        take = Take(shots, studio.seed + index, steps, about["mode"], model=train())
        return studio.clip(take, with_picture=index < _SHOWN_PROMPTS)

    num_prompts = len(studio.items[:_NUM_PROMPTS])
    yield studio.row(NAME, about | {"prompts": num_prompts}, losses)
    for index in range(num_prompts):
        yield studio.row(
            NAME, about | {"prompt": index, "frames": studio.clip_frames, "steps": steps}, partial(clip, index)
        )


def section(studio: Studio, found: Sequence[Row]) -> Section:
    """The variants in the paper's order: their losses, and means over the prompts."""
    config = studio.config
    painted = _of({"mode": PAINTED}, found)
    table: list[list[Cell]] = [[PAINTED, *[None] * 6, *_means(studio, painted, painted)]]
    without, *clips = _of({"mode": WITHOUT_CODES}, found)
    losses = [without.values[name] for name in _LOSSES]
    table.append(
        [WITHOUT_CODES, None, None, None, *losses, studio.config.sampling.steps(False), *_means(studio, clips, painted)]
    )
    by_layers: dict[str, list[tuple[float, float]]] = {name: [] for name in _LOSSES}
    for variant in VARIANTS:
        trained, *clips = _of(variant.key, found)
        losses = [trained.values[name] for name in _LOSSES]
        steps = config.sampling.num_steps
        table.append([*variant.told(config), *losses, steps, *_means(studio, clips, painted)])
        if (variant.codes, variant.fusion, variant.noise) == (_COARSE, "adaptive_norm", "none") and variant.layers > 0:
            for name, loss in zip(_LOSSES, losses, strict=True):
                by_layers[name].append((float(len(variant.places(config.dit.depth))), loss))
    columns = ["codes in training", "fusion", "layers", "noise on F", *_LOSSES, "steps", *_METRICS]
    titles = {variant.key["variant"]: ", ".join(map(str, variant.told(config))) for variant in VARIANTS}
    sheets = pictures(
        found,
        lambda row: f"Prompt {row.key['prompt'] + 1}, {titles.get(row.key.get('variant'), row.key['mode'])}",
    )
    note = (
        f"Short trainings from one common start: each variant's new adapters alone learnt for {studio.training_steps} "
        "steps around the same frozen DiT, whose own adapters were taken off, on the same clips in the same order. "
        f"Layers are the same share of its {config.dit.depth} as the paper's 3, 8 and 14 of {_PAPER_DEPTH}; the last "
        "row is that of Fig. 6. F enters through them alone, and through the linear estimate where the model has one. "
        f"{len(painted)} held-out prompts, clips of {studio.clip_frames} frames, all rendered from drafts of "
        f"{'×'.join(map(str, config.latent_vqvae.ratio))} codes. The losses are of v on the painted clips, with F of "
        "their own codes, or of codes drafted behind the first frame of these; without codes, both are one."
    )
    plot = Plot("Loss by the number of first layers", "layers", by_layers)
    return Section(
        "Table 3: variants of training", note, [Table("Variants of training", columns, table), plot, *sheets]
    )


def _of(key: dict[str, Any], found: Sequence[Row]) -> list[Row]:
    """The rows whose keys have this in them."""
    return [row for row in found if key.items() <= row.key.items()]


def _means(studio: Studio, clips: Sequence[Row], painted: Sequence[Row]) -> list[Cell]:
    summary = studio.summary(clips, painted)
    return [summary[name] for name in _METRICS]
