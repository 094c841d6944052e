"""Variants of injection, trained for a few steps around the tiny model's DiT."""

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from arlon_cli.config import ModelConfig, SemanticInjectionConfig
from arlon_cli.dioramas import COUNTED
from arlon_cli.models.semantic_injection import AdaptiveNorm, ControlLayer, MlpAdapter
from arlon_cli.models.stdit import STDiT3
from arlon_cli.storage.checkpoint import Checkpoint
from arlon_cli.training.clips import ClipKind
from arlon_cli.training.data import PixelCrops
from arlon_cli.training.loop import Interrupted
from arlon_cli.training.stages import Scale
from arlon_cli.training.variants import train_variant, with_injection

SMALL = Scale(
    PixelCrops(scenes=1, crops=2, size=16, num_frames=8, image_size=32),
    patch_scenes=24,
    statistics_scenes=8,
    clips=ClipKind(24, 24),
    most_clips=8,
    starts=ClipKind(24, 8),
    most_starts=8,
    subjects=ClipKind(24, 8, families=COUNTED),
    most_subjects=8,
    changes=ClipKind(24, 16, lead=8),
    most_changes=8,
    captions=8,
    vqvae_clips=2,
    ar_frames=8,
    ranked_frames=8,
    dit_frames=10,
    pictures=4,
    most_pictures=32,
)
FUSIONS = {"adaptive_norm": AdaptiveNorm, "mlp_adapter": MlpAdapter, "controlnet": ControlLayer}
FINE, COARSE = "latent_vqvae", "latent_vqvae_coarse"


def train(
    source: Path,
    folder: Path,
    injection: SemanticInjectionConfig,
    codes: str = COARSE,
    num_steps: int = 4,
    stop_after: float = math.inf,
) -> Path:
    calls = itertools.count(1)
    return train_variant(
        Checkpoint(source),
        folder,
        injection,
        codes,
        num_steps=num_steps,
        seed=0,
        device=torch.device("cpu"),
        precision=torch.float32,
        on_event=lambda message: None,
        stop=lambda: next(calls) >= stop_after,
        scale=SMALL,
    )


@pytest.fixture
def plain(tiny_config: ModelConfig) -> SemanticInjectionConfig:
    return replace(tiny_config.injection, add_to_input=False, condition_noise="none")


def first_loss(checkpoint: Path) -> float:
    with (checkpoint.parent / "metrics.jsonl").open() as lines:
        return float(json.loads(next(lines))["loss"])


def test_all_start_from_the_same_loss(tiny_checkpoint: Path, tmp_path: Path, plain: SemanticInjectionConfig) -> None:
    kinds = [
        plain,
        replace(plain, fusion="mlp_adapter"),
        replace(plain, fusion="controlnet"),
        replace(plain, condition_noise="gaussian", noise_probability=1.0),
        replace(plain, condition_noise="uncertainty", noise_probability=1.0),
    ]
    found = [train(tiny_checkpoint, tmp_path, injection, num_steps=3) for injection in kinds]
    assert len(set(found)) == 5
    losses = [first_loss(checkpoint) for checkpoint in found]
    assert losses == pytest.approx([losses[0]] * 5, rel=1e-6)
    dits = [Checkpoint(checkpoint).load("dit", "cpu", torch.float32) for checkpoint in found]
    source = Checkpoint(tiny_checkpoint)
    backbone = {name: value for name, value in source.tensors("dit").items() if not name.startswith("injection.")}
    for injection, checkpoint, dit in zip(kinds, found, dits, strict=True):
        assert Checkpoint(checkpoint).config == replace(source.config, injection=injection)
        assert isinstance(dit, STDiT3)
        assert dit.injection is not None
        assert type(dit.injection.fusions["0"]) is FUSIONS[injection.fusion]
        learnt = dit.state_dict()
        for name, value in backbone.items():
            assert torch.equal(learnt[name], value.bfloat16().float() if value.ndim > 1 else value), name
    fine = train(tiny_checkpoint, tmp_path, plain, FINE, num_steps=3)
    assert first_loss(fine) != pytest.approx(losses[0], rel=1e-4)  # other codes, of which the linear estimate tells


def test_new_adapters_change_nothing_and_learn_alone(tiny_checkpoint: Path, plain: SemanticInjectionConfig) -> None:
    source = Checkpoint(tiny_checkpoint)
    size = {name: torch.tensor([value]) for name, value in (("fps", 24.0), ("height", 32.0), ("width", 32.0))}
    x_t, condition = torch.randn(2, 1, 4, 3, 4, 4, generator=torch.Generator().manual_seed(0))

    def v(injection: SemanticInjectionConfig) -> torch.Tensor:
        model = with_injection(source, injection, 0)
        learns = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        assert learns == {name for name, _ in model.named_parameters() if name.startswith("injection.")}
        with torch.no_grad():
            return model(x_t, torch.tensor([500.0]), torch.ones(1, 12, 16), condition=condition, **size)

    bare = v(replace(plain, layers=()))
    assert all(torch.equal(v(replace(plain, fusion=fusion)), bare) for fusion in FUSIONS)


def test_a_stopped_training_goes_on(tiny_checkpoint: Path, tmp_path: Path, plain: SemanticInjectionConfig) -> None:
    injection = replace(plain, condition_noise="uncertainty", noise_probability=0.5)
    whole = train(tiny_checkpoint, tmp_path / "whole", injection)
    for stop_after in (1, 4):  # before the clips are there, and in the second step
        with pytest.raises(Interrupted):
            train(tiny_checkpoint, tmp_path / "parts", injection, stop_after=stop_after)
    resumed = train(tiny_checkpoint, tmp_path / "parts", injection)
    tensors = Checkpoint(resumed).tensors("dit")
    for name, value in Checkpoint(whole).tensors("dit").items():
        assert torch.equal(value, tensors[name]), name
    before = (resumed / "config.json").stat().st_mtime_ns
    assert train(tiny_checkpoint, tmp_path / "parts", injection, stop_after=1) == resumed  # it is done
    assert (resumed / "config.json").stat().st_mtime_ns == before
