"""The recipe runs through, can be stopped in any part, and leaves what the command line renders with."""

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from arlon_cli.config import ModelConfig
from arlon_cli.storage.checkpoint import PARTS, Checkpoint
from arlon_cli.training.clips import ClipKind
from arlon_cli.training.data import PixelCrops
from arlon_cli.training.diorama import SHARES, train_diorama
from arlon_cli.training.loop import Interrupted
from arlon_cli.training.stages import Scale

SMALL = Scale(
    PixelCrops(scenes=1, crops=2, size=16, num_frames=8, image_size=32),
    clips=ClipKind(96, 96),
    most_clips=8,
    starts=ClipKind(96, 8),
    most_starts=8,
    changes=ClipKind(96, 24, lead=8),
    most_changes=8,
    captions=8,
    vqvae_clips=2,
    ar_frames=8,
    ranked_frames=8,
    dit_frames=10,
    pictures=4,
    most_pictures=32,
)


def train(folder: Path, config: ModelConfig, stop_after: float = math.inf) -> Path:
    """Train each part for six steps; stop when that many steps were made."""
    folder.mkdir(exist_ok=True)
    plan = {"minutes": 1, "spent": {}, "steps": dict.fromkeys(SHARES, 6)}
    if not (folder / "budget.json").exists():
        (folder / "budget.json").write_text(json.dumps(plan))
    steps = itertools.count(1)
    return train_diorama(
        folder,
        minutes=1,
        device=torch.device("cpu"),
        precision=torch.float32,
        seed=0,
        on_event=lambda message: None,
        stop=lambda: next(steps) >= stop_after,
        config=config,
        scale=SMALL,
    )


@pytest.mark.slow
def test_stopped_runs_go_on_and_give_the_same_weights(tmp_path: Path, tiny_config: ModelConfig) -> None:
    config = replace(
        tiny_config,
        text_encoder=replace(tiny_config.text_encoder, vocab_size=1536, max_tokens=80),
        ar=replace(tiny_config.ar, max_text_tokens=80),
        dit=replace(tiny_config.dit, model_max_length=80),
    )
    whole = train(tmp_path / "whole", config)
    for _ in range(3):
        with pytest.raises(Interrupted):
            train(tmp_path / "parts", config, stop_after=11)
    resumed = train(tmp_path / "parts", config)
    for part in PARTS:
        tensors = Checkpoint(resumed).tensors(part)
        assert tensors.keys() == Checkpoint(whole).tensors(part).keys()
        for name, value in Checkpoint(whole).tensors(part).items():
            assert torch.equal(value, tensors[name]), f"{part} {name}"
    soft, sharp = (
        load_file(tmp_path / "whole" / stage / "trained.safetensors") for stage in ("latent_vqvae", "decoder")
    )
    for name, value in Checkpoint(whole).tensors("latent_vqvae").items():
        if name.startswith("decoder.") and value.dtype == torch.float32:  # matrices are rounded
            assert not torch.equal(soft[name], sharp[name])
            torch.testing.assert_close(value, 0.25 * soft[name] + 0.75 * sharp[name])
    sheets = sorted(file.stem for file in (tmp_path / "parts" / "samples").glob("*.png"))
    assert sheets == ["ar", "decoder", "dit", "latent_vqvae", "latent_vqvae_coarse", "video_vae"]
