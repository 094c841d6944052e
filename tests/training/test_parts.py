"""Each part learns from a folder of videos, and leaves a checkpoint of which only that part is new."""

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from arlon_cli.config import ModelConfig
from arlon_cli.errors import CheckpointError, InputError
from arlon_cli.storage.checkpoint import ADAPTERS, WEIGHTS, Checkpoint, save_checkpoint
from arlon_cli.storage.store import Store
from arlon_cli.training.ar import GUIDANCE
from arlon_cli.training.loop import Interrupted
from arlon_cli.training.parts import train_part
from arlon_cli.training.processes import ALONE, Processes
from arlon_cli.training.work import PartSettings, check_settings

TRAINED = ("video_vae", "latent_vqvae", "latent_vqvae_coarse", "ar", "dit")


def train(
    data: Path,
    folder: Path,
    checkpoint: Path,
    part: str,
    *,
    stop: Callable[[], bool] = lambda: False,
    on_event: Callable[[str], None] = lambda message: None,
    **settings: Any,
) -> Path:
    given = {
        "part": part,
        "num_steps": 4,
        "batch": 2,
        "micro_batch": 2,
        "learning_rate": 1e-3,
        "seed": 0,
        "from_scratch": False,
        "sizes": ((32, 32),),
    }
    return train_part(
        data,
        folder,
        Checkpoint(checkpoint),
        PartSettings(**{**given, **settings}),
        store=Store(folder.parent / "prepared", math.inf),
        device=torch.device("cpu"),
        precision=torch.float32,
        processes=ALONE,
        checkpoint_layers=part == "dit",
        on_event=on_event,
        stop=stop,
    )


def metrics(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def losses(folder: Path) -> list[float]:
    return [line["loss"] for line in metrics(folder)]


@pytest.mark.parametrize("from_scratch", [False, True])
@pytest.mark.parametrize("part", TRAINED)
def test_one_part_is_new_and_the_others_are_the_same(
    videos: Path, tmp_path: Path, tiny_checkpoint: Path, part: str, from_scratch: bool
) -> None:
    before = Checkpoint(tiny_checkpoint)
    after = Checkpoint(train(videos, tmp_path / "run", tiny_checkpoint, part, from_scratch=from_scratch))
    assert after.folder == tmp_path / "run" / "checkpoint"
    if part in ("video_vae", "latent_vqvae"):  # whose codes the ranker would not know
        assert after.config == replace(before.config, ranker=None)
        assert not after.has("ranker")
    else:
        assert after.config == before.config
        assert after.has("ranker")
    for name in (*TRAINED, "text_encoder", "classifier"):
        tensors, old = after.tensors(name), before.tensors(name)
        assert tensors.keys() == old.keys()
        changed = [key for key, value in tensors.items() if not torch.equal(value.float(), old[key].float())]
        assert bool(changed) == (name == part), name
        assert all(value.isfinite().all() for value in tensors.values())
    assert after.load(part, "cpu", torch.float32)
    assert [line["step"] for line in metrics(tmp_path / "run")] == [1, 4]


@pytest.mark.parametrize("part", TRAINED)
def test_a_part_learns(videos: Path, tmp_path: Path, tiny_checkpoint: Path, part: str) -> None:
    from_scratch = part in ("latent_vqvae", "latent_vqvae_coarse", "ar")  # the others' fresh weights are good already
    train(videos, tmp_path / "run", tiny_checkpoint, part, num_steps=40, learning_rate=1e-2, from_scratch=from_scratch)
    found = losses(tmp_path / "run")
    assert found[-1] < 0.9 * found[0]


@pytest.mark.parametrize("part", ["latent_vqvae", "dit"])
def test_a_run_that_was_stopped_and_killed_equals_an_uninterrupted_one(
    videos: Path, tmp_path: Path, tiny_checkpoint: Path, part: str
) -> None:
    whole = Checkpoint(train(videos, tmp_path / "whole", tiny_checkpoint, part, num_steps=8, from_scratch=True))

    def interrupt(after: int, how: BaseException | None) -> Callable[[], bool]:
        calls = 0

        def stop() -> bool:
            nonlocal calls
            calls += (tmp_path / "parts" / "run.json").exists()
            if calls >= after and how is not None:
                raise how
            return calls >= after

        return stop

    run = (videos, tmp_path / "parts", tiny_checkpoint, part)
    with pytest.raises(Interrupted):
        train(*run, num_steps=8, from_scratch=True, stop=interrupt(3, None))
    with pytest.raises(KeyboardInterrupt):  # at once, two steps behind what was saved
        train(*run, num_steps=8, from_scratch=True, stop=interrupt(9, KeyboardInterrupt()))
    parts = Checkpoint(train(*run, num_steps=8, from_scratch=True))
    for name, value in whole.tensors(part).items():
        assert torch.equal(value, parts.tensors(part)[name]), name
    assert losses(tmp_path / "whole")[-1] == losses(tmp_path / "parts")[-1]


def test_guidance_is_learnt_once_and_wanted_again_by_what_learns_on(
    videos: Path, tmp_path: Path, tiny_checkpoint: Path
) -> None:
    assert Checkpoint(tiny_checkpoint).config.sampling.ar_guidance_scale == 2.0
    alone = train(videos, tmp_path / "alone", tiny_checkpoint, "ar", guidance=2.0)
    assert Checkpoint(alone).config.sampling.ar_guidance_scale == 1.0
    assert 0 <= losses(tmp_path / "alone")[0] < 1e-3  # a new network hardly looks at the text
    with pytest.raises(InputError, match="drafts without guidance already"):
        train(videos, tmp_path / "twice", alone, "ar", guidance=2.0)
    events: list[str] = []
    further = train(videos, tmp_path / "further", alone, "ar", on_event=events.append)
    assert Checkpoint(further).config.sampling.ar_guidance_scale == GUIDANCE
    assert any("Drafts take guidance" in event for event in events)
    other = train(videos, tmp_path / "other", alone, "latent_vqvae_coarse")
    assert Checkpoint(other).config == Checkpoint(alone).config


def test_micro_batches_are_one_batch(videos: Path, tmp_path: Path, tiny_checkpoint: Path) -> None:
    """The same clips at once or one by one, for a loss that draws no random numbers."""
    found = []
    for micro_batch in (4, 1):
        folder = tmp_path / str(micro_batch)
        split = {"batch": 4, "micro_batch": micro_batch, "sizes": ((32, 32), (32, 64))}
        train(videos, folder, tiny_checkpoint, "latent_vqvae", num_steps=6, **split)
        found.append(metrics(folder))
    for whole, parts in zip(*found, strict=True):
        assert whole["mse"] == pytest.approx(parts["mse"], rel=0.2)  # each relative to its own variance
    assert [line["step"] for line in found[1]] == [1, 6]


def test_around_a_published_backbone_only_adapters_learn_and_are_saved(
    videos: Path, tmp_path: Path, tiny_arlon: Path
) -> None:
    before = Checkpoint(tiny_arlon)
    after = Checkpoint(train(videos, tmp_path / "run", tiny_arlon, "dit", num_steps=20, learning_rate=1e-2))
    stored = load_file(after.folder / "dit" / WEIGHTS)
    assert stored.keys() == load_file(tiny_arlon / "dit" / WEIGHTS).keys()
    old, new = before.tensors("dit"), after.tensors("dit")
    changed = {name for name, value in new.items() if not torch.equal(value.float(), old[name].float())}
    assert changed and changed <= stored.keys()
    state = load_file(tmp_path / "run" / "state.safetensors")
    parameters = {name.removeprefix("average.") for name in state if name.startswith("average.")}
    assert parameters and all(name.startswith(ADAPTERS) for name in parameters)
    assert state.keys() >= {f"optimizer.exp_avg.{name}" for name in parameters}
    assert "module.spatial_blocks.0.attn.qkv.weight" not in state


def test_adapters_learn_on_from_those_of_the_checkpoint(videos: Path, tmp_path: Path, tiny_arlon: Path) -> None:
    """With hardly a step, what was there is still there; from scratch, it is not."""
    old = load_file(tiny_arlon / "dit" / WEIGHTS)
    matrices = [name for name, value in old.items() if value.ndim > 1]
    for from_scratch in (False, True):
        run = tmp_path / f"{from_scratch}"
        few = {"num_steps": 1, "learning_rate": 1e-9, "from_scratch": from_scratch}
        new = load_file(train(videos, run, tiny_arlon, "dit", **few) / "dit" / WEIGHTS)
        near = [torch.allclose(new[name].float(), old[name], atol=1e-3, rtol=0.01) for name in matrices]
        assert any(near) != from_scratch
        assert all(near) != from_scratch


def test_a_model_of_published_parts_alone_is_trained_in_turn(videos: Path, tmp_path: Path, tiny_backbone: Path) -> None:
    """Open-Sora's chunks of 17 frames, `pred_sigma`, its timesteps; what is published is no part of our checkpoints."""
    with pytest.raises(InputError, match="has Open-Sora's own video VAE, which stays as it is"):
        train(videos, tmp_path / "vae", tiny_backbone, "video_vae")
    model = tiny_backbone
    for part in ("latent_vqvae", "latent_vqvae_coarse", "ar", "dit"):
        said: list[str] = []
        model = train(videos, tmp_path / part, model, part, num_steps=2, on_event=said.append)
        assert any(f"{'injection' if part == 'dit' else part} starts anew" in message for message in said)
        assert all(math.isfinite(loss) for loss in losses(tmp_path / part))
    parts = {file.relative_to(model).parts[0] for file in Checkpoint(model).files()}
    assert parts == {"config.json", "latent_vqvae", "latent_vqvae_coarse", "ar", "dit"}
    assert all(name.startswith("injection.") for name in load_file(model / "dit" / WEIGHTS))
    assert Checkpoint(model).load("dit", "cpu", torch.float32)


def test_published_parts_in_folders_are_found_from_the_new_checkpoint(
    videos: Path, tmp_path: Path, tiny_arlon: Path, offline_hub: Path
) -> None:
    for part, place in {"dit": tiny_arlon / "backbone", "vae": tmp_path / "vae", "t5": tmp_path / "t5"}.items():
        shutil.copytree(offline_hub / f"models--tiny--{part}" / "snapshots" / ("0" * 40), place)
    config = json.loads((tiny_arlon / "config.json").read_text())
    config["published"] = {"dit": "backbone", "video_vae": "../vae", "text_encoder": str(tmp_path / "t5")}
    (tiny_arlon / "config.json").write_text(json.dumps(config))
    shutil.rmtree(offline_hub)
    after = Checkpoint(train(videos, tmp_path / "a" / "run", tiny_arlon, "dit", num_steps=1))
    for part in ("text_encoder", "video_vae", "dit"):
        assert after.load(part, "cpu", torch.float32)
    assert after.published["video_vae"].files() == [(tmp_path / "vae" / name) for name in (WEIGHTS, "config.json")]


def test_published_parts_that_are_not_whole_are_to_be_pulled(
    videos: Path, tmp_path: Path, tiny_arlon: Path, offline_hub: Path
) -> None:
    shutil.rmtree(offline_hub / "models--tiny--dit")
    with pytest.raises(CheckpointError, match=r"no whole copy of tiny/dit\. `arlon models pull"):
        train(videos, tmp_path / "run", tiny_arlon, "dit")
    assert not (tmp_path / "run").exists()


def test_settings_that_do_not_fit_are_refused(videos: Path, tmp_path: Path, tiny_checkpoint: Path) -> None:
    def refused(message: str, part: str, **settings: Any) -> None:
        with pytest.raises((InputError, CheckpointError), match=message):
            train(videos, tmp_path / "run", tiny_checkpoint, part, **settings)

    refused("does not divide into micro-batches of 3", "ar", batch=4, micro_batch=3)
    refused("48x48 is no multiple of 32, as dit needs it", "dit", sizes=((48, 48),))
    refused("AR model of tiny has codes for 32x32 alone", "ar", sizes=((64, 64),))
    assert not (tmp_path / "run").exists()


def test_micro_batches_must_divide_among_the_processes(tiny_checkpoint: Path) -> None:
    two = Processes()
    two.count = 2
    settings = PartSettings("ar", 1, 6, 2, 1e-3, 0, False, ((32, 32),))
    check_settings(settings, Checkpoint(tiny_checkpoint), ALONE)
    with pytest.raises(InputError, match="3 micro-batches a step do not divide among 2 processes"):
        check_settings(settings, Checkpoint(tiny_checkpoint), two)


def test_a_run_goes_on_only_as_it_began(videos: Path, tmp_path: Path, tiny_checkpoint: Path) -> None:
    train(videos, tmp_path / "run", tiny_checkpoint, "ar")
    with pytest.raises(InputError, match="began with another num_steps and seed"):
        train(videos, tmp_path / "run", tiny_checkpoint, "ar", num_steps=9, seed=1)
    with pytest.raises(InputError, match="began with another data"):
        (tmp_path / "other.csv").write_text(f"file,caption\n{videos / 'red.mp4'},a blue hill\n")
        train(tmp_path / "other.csv", tmp_path / "run", tiny_checkpoint, "ar")


def test_captions_and_parts_that_are_missing_are_named(
    videos: Path, tmp_path: Path, tiny_config: ModelConfig, tiny_modules: dict[str, nn.Module], tiny_checkpoint: Path
) -> None:
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "red.mp4").symlink_to(videos / "red.mp4")
    with pytest.raises(InputError, match="has no captions; ar needs"):
        train(tmp_path / "bare", tmp_path / "run", tiny_checkpoint, "ar")
    some = {name: module for name, module in tiny_modules.items() if name in ("text_encoder", "video_vae")}
    save_checkpoint(tmp_path / "some", tiny_config, some, torch.float32)
    with pytest.raises(CheckpointError, match="has no latent_vqvae, from which ar learns"):
        train(videos, tmp_path / "run", tmp_path / "some", "ar")
    said: list[str] = []
    train(tmp_path / "bare", tmp_path / "run", tmp_path / "some", "latent_vqvae", on_event=said.append)
    assert any("latent_vqvae starts anew" in message for message in said)


def test_the_model_is_never_overwritten(videos: Path, tmp_path: Path, tiny_checkpoint: Path) -> None:
    first = train(videos, tmp_path / "run", tiny_checkpoint, "ar")
    with pytest.raises(InputError, match="is where the model comes from"):
        train(videos, tmp_path / "run", first, "ar")
