"""The recipe runs through, can be stopped in any part, and leaves what the command line renders with."""

import itertools
import json
import math
import shutil
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from arlon_cli.config import ModelConfig
from arlon_cli.dioramas import COUNTED
from arlon_cli.errors import CheckpointError, InputError
from arlon_cli.storage.checkpoint import PARTS, Checkpoint
from arlon_cli.training.clips import ClipKind
from arlon_cli.training.data import PixelCrops
from arlon_cli.training.diorama import SHARES, train_diorama
from arlon_cli.training.loop import Interrupted
from arlon_cli.training.stages import Scale

SMALL = Scale(
    PixelCrops(scenes=1, crops=2, size=16, num_frames=8, image_size=32),
    patch_scenes=24,
    statistics_scenes=8,
    clips=ClipKind(96, 96),
    most_clips=8,
    starts=ClipKind(96, 8),
    most_starts=8,
    subjects=ClipKind(96, 8, families=COUNTED),
    most_subjects=8,
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


def train(
    folder: Path,
    config: ModelConfig,
    stop_after: float = math.inf,
    start: Checkpoint | None = None,
    parts: Collection[str] = (),
    scale: Scale = SMALL,
    new_codes: bool = False,
) -> Path:
    """Train each part for six steps; stop when that many steps were made."""
    folder.mkdir(exist_ok=True)
    plan = {"spent": {}, "steps": dict.fromkeys(SHARES, 6)}
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
        scale=scale,
        start=start,
        parts=parts,
        new_codes=new_codes,
    )


@pytest.fixture(scope="module")
def config(tiny_config: ModelConfig) -> ModelConfig:
    """A tiny model whose text encoder takes captions of dioramas whole."""
    return replace(
        tiny_config,
        text_encoder=replace(tiny_config.text_encoder, vocab_size=1536, max_tokens=80),
        ar=replace(tiny_config.ar, max_text_tokens=80),
        dit=replace(tiny_config.dit, model_max_length=80),
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, config: ModelConfig) -> Path:
    """The checkpoint of a run that was never stopped."""
    return train(tmp_path_factory.mktemp("recipe") / "whole", config)


def differing(one: Checkpoint, other: Checkpoint) -> dict[str, set[str]]:
    """The names of the tensors in which two checkpoints differ, by part."""
    names: dict[str, set[str]] = {}
    for part in PARTS:
        tensors = other.tensors(part)
        assert one.tensors(part).keys() == tensors.keys()
        if found := {name for name, value in one.tensors(part).items() if not torch.equal(value, tensors[name])}:
            names[part] = found
    return names


@pytest.mark.slow
def test_stopped_runs_go_on_and_give_the_same_weights(tmp_path: Path, config: ModelConfig, whole: Path) -> None:
    for _ in range(3):
        with pytest.raises(Interrupted):
            train(tmp_path / "parts", config, stop_after=11)
    resumed = train(tmp_path / "parts", config)
    assert differing(Checkpoint(whole), Checkpoint(resumed)) == {}
    soft, sharp = (load_file(whole.parent / stage / "trained.safetensors") for stage in ("latent_vqvae", "decoder"))
    for name, value in Checkpoint(whole).tensors("latent_vqvae").items():
        if name.startswith("decoder.") and value.dtype == torch.float32:  # matrices are rounded
            assert not torch.equal(soft[name], sharp[name])
            torch.testing.assert_close(value, 0.25 * soft[name] + 0.75 * sharp[name])
    sheets = sorted(file.stem for file in (tmp_path / "parts" / "samples").glob("*.png"))
    assert sheets == ["ar", "decoder", "dit", "latent_vqvae", "latent_vqvae_coarse", "video_vae"]


@pytest.mark.slow
def test_a_model_is_trained_on_in_all_of_its_parts(tmp_path: Path, config: ModelConfig, whole: Path) -> None:
    start = Checkpoint(whole)
    with pytest.raises(Interrupted):
        train(tmp_path / "second", config, stop_after=20, start=start)
    second = Checkpoint(train(tmp_path / "second", config, start=start))
    changed = differing(start, second)
    assert changed.keys() == set(PARTS)
    for part in ("latent_vqvae", "latent_vqvae_coarse"):  # whose codes others know
        assert {name.split(".")[0] for name in changed[part]} == {"decoder"}
    assert not changed["video_vae"] & {"shift", "scale"}
    with pytest.raises(InputError, match="began with another start"):
        train(tmp_path / "second", config)


@pytest.mark.slow
def test_codes_become_others_where_they_are_to(tmp_path: Path, config: ModelConfig, whole: Path) -> None:
    start = Checkpoint(whole)
    parts = ["latent_vqvae", "ar", "ranker", "dit"]
    with pytest.raises(Interrupted):
        train(tmp_path / "stopped", config, stop_after=4, start=start, parts=parts, new_codes=True)
    resumed, at_once = (
        Checkpoint(train(tmp_path / name, config, start=start, parts=parts, new_codes=True))
        for name in ("stopped", "at once")
    )
    assert differing(resumed, at_once) == {}
    changed = differing(start, resumed)
    assert changed.keys() == set(parts)
    assert {name.split(".")[0] for name in changed["latent_vqvae"]} == {"encoder", "codebook", "decoder"}
    with pytest.raises(InputError, match="began with another new_codes"):
        train(tmp_path / "stopped", config, start=start, parts=parts)


@pytest.mark.slow
def test_parts_that_are_not_named_stay_as_they_are(tmp_path: Path, config: ModelConfig, whole: Path) -> None:
    start = Checkpoint(whole)
    for parts in (["video_vae"], ["ar", "ranker"], ["latent_vqvae", "dit", "classifier"]):
        run = Checkpoint(train(tmp_path / parts[0], config, start=start, parts=parts))
        assert differing(start, run).keys() == set(parts)


@pytest.mark.slow
def test_nothing_is_added_to_what_a_part_has_begun_to_learn_from(
    tmp_path: Path, config: ModelConfig, whole: Path
) -> None:
    def dit_stopped(stop_after: int, most_clips: int) -> int:
        with pytest.raises(Interrupted):
            train(
                tmp_path,
                config,
                stop_after,
                start=Checkpoint(whole),
                parts=["dit"],
                scale=replace(SMALL, most_clips=most_clips),
            )
        return len(list((tmp_path / "clips").glob("*.safetensors")))

    assert dit_stopped(5, most_clips=8) == 1
    assert (tmp_path / "dit" / "state.safetensors").exists()
    assert dit_stopped(2, most_clips=16) == 1


def test_what_cannot_be_trained_is_refused(tmp_path: Path, tiny_checkpoint: Path, tiny_arlon: Path) -> None:
    start = Checkpoint(tiny_checkpoint)
    with pytest.raises(InputError, match="name a model to start from"):
        train(tmp_path / "run", start.config, parts=["ar"])
    with pytest.raises(InputError, match="no part eyes to train; there are text_encoder, video_vae"):
        train(tmp_path / "run", start.config, start=start, parts=["eyes", "ar"])
    with pytest.raises(InputError, match="new to dit, ranker; train them with it"):
        train(tmp_path / "run", start.config, start=start, parts=["text_encoder", "ar"])
    shutil.copytree(tiny_checkpoint, tmp_path / "lacking")
    shutil.rmtree(tmp_path / "lacking" / "dit")
    with pytest.raises(CheckpointError, match="has no dit; all parts begin as they are there"):
        train(tmp_path / "run", start.config, start=Checkpoint(tmp_path / "lacking"), parts=["ar"])
    with pytest.raises(InputError, match="published weights"):
        train(tmp_path / "run", start.config, start=Checkpoint(tiny_arlon))
    shutil.copytree(tiny_checkpoint, tmp_path / "own" / "checkpoint")
    with pytest.raises(InputError, match="another folder"):
        train(tmp_path / "own", start.config, start=Checkpoint(tmp_path / "own" / "checkpoint"))
