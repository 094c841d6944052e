"""What a benchmark counts, without looking at the clock."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from arlon_cli.config import ModelConfig
from arlon_cli.errors import InputError
from arlon_cli.evaluation.bench import random_parts
from arlon_cli.evaluation.bench.ceilings import Ceilings, _widest
from arlon_cli.evaluation.bench.random_parts import at_size, buildable_parts, random_part
from arlon_cli.evaluation.bench.segment import segment_numbers
from arlon_cli.evaluation.bench.stages import (
    Stage,
    _stage,
    measure_denoise,
    measure_draft,
    measure_stages,
    weight_bytes,
)
from arlon_cli.evaluation.bench.timing import Spread, peak_memory
from arlon_cli.evaluation.bench.whole import measure_whole, whole_numbers
from arlon_cli.models.ar_transformer import ARTransformer
from arlon_cli.models.stdit import STDiT3
from arlon_cli.presets import DIORAMA, OPENSORA_V1_2
from arlon_cli.sampling import autoregressive
from arlon_cli.storage.video import probe

CPU = torch.device("cpu")


def test_a_whole_video_is_on_disk_and_its_first_frame_comes_before(tiny_config: ModelConfig, tmp_path: Path) -> None:
    def chunks() -> Iterator[np.ndarray]:
        for size in (3, 4):
            yield np.zeros((size, tiny_config.height, tiny_config.width, 3), np.uint8)

    path = tmp_path / "video.mp4"
    started = time.time() - 100
    found = measure_whole(chunks(), path, tiny_config, CPU, started)
    assert found.num_frames == 7 == probe(path).num_frames
    assert 100 <= found.load_seconds <= found.first_frame_seconds <= found.first_on_disk_seconds
    assert found.first_on_disk_seconds <= found.load_seconds + 7 / found.frames_per_second + 1e-6
    slower = replace(found, frames_per_second=found.frames_per_second / 2)
    numbers = whole_numbers([found, slower])
    assert numbers["num_frames"] == 7
    assert numbers["frames_per_second"]["least"] == slower.frames_per_second
    assert numbers["load_seconds"]["least"] == numbers["load_seconds"]["most"] == found.load_seconds


def test_a_spread_holds_its_median() -> None:
    assert Spread.of([3.0, 1.0, 10.0]) == Spread(3.0, 1.0, 10.0)
    stage = Stage("AR Transformer", "codes/s", 12, Spread(2.0, 1.0, 4.0), 0.0, 0.0, 0.0, None)
    assert stage.rate == Spread(6.0, 3.0, 12.0)  # the slowest call has the least rate
    step = replace(stage, unit="ms/step", count=1)
    assert step.rate == Spread(2000.0, 1000.0, 4000.0)


def test_work_is_bounded_by_what_takes_longest() -> None:
    machine = Ceilings(product_tflops=2.0, convolution_tflops=1.0, memory_gb_per_second=10.0)
    assert machine.bound(4000.0, 0.0, 10.0) == ("matrix product", 2.0)
    assert machine.bound(2000.0, 3000.0, 10.0) == ("convolution", 4.0)
    assert machine.bound(2000.0, 0.0, 30.0) == ("memory", 3.0)
    stage = Stage("DiT", "ms/step", 1, Spread(8.0, 8.0, 8.0), 2000.0, 3000.0, 10.0, None)
    assert stage.beside(machine) == ("convolution", 0.5)
    assert stage.numbers(machine)["share_of_ceiling"] == 0.5
    assert stage.numbers(machine)["tflops"] == 5 / 8


def test_convolutions_are_of_the_size_of_the_vaes() -> None:
    assert _widest(DIORAMA.video_vae, 128, 128) == (64, (16, 32, 32))
    assert _widest(OPENSORA_V1_2.video_vae, 256, 512) == (128, (17, 32, 64))


def test_arithmetic_and_weights_are_of_one_step(tiny_config: ModelConfig, tiny_modules: dict[str, nn.Module]) -> None:
    dit = tiny_modules["dit"]
    assert isinstance(dit, STDiT3)
    with torch.inference_mode():
        found = measure_denoise(dit, tiny_config, CPU, repeats=1)
    assert found.read_gb * 1e9 == pytest.approx(sum(parameter.nbytes for parameter in dit.parameters()))
    # each weight of a block's linear maps multiplies and adds once per position at least
    blocks = sum(p.numel() for block in (*dit.spatial_blocks, *dit.temporal_blocks) for p in block.parameters())
    positions = tiny_config.segments.num_latents * (tiny_config.height // 16) * (tiny_config.width // 16)
    assert found.gflops * 1e9 > blocks * positions
    assert 0 < found.convolution_gflops < found.product_gflops  # patches are embedded by a convolution


def test_attention_is_counted() -> None:
    q, k, v = torch.randn(3, 2, 4, 16, 8).unbind()
    attention = lambda: F.scaled_dot_product_attention(q, k, v)
    with torch.inference_mode():
        found = _stage("attention", "calls/s", attention, CPU, count=1, read=0, repeats=1)
    assert found.gflops * 1e9 == pytest.approx(2 * (2 * 2 * 4 * 16 * 16 * 8))


def test_passes_of_a_draft_are_those_that_were_made(
    tiny_config: ModelConfig, tiny_modules: dict[str, nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    ar = tiny_modules["ar"]
    assert isinstance(ar, ARTransformer)
    weights = sum(p.nbytes for name, p in ar.named_parameters() if name != "code_embedding.weight")  # rows are read
    config = replace(tiny_config, sampling=replace(tiny_config.sampling, ar_temperature=0.0))  # so that codes stay

    def passes() -> float:
        with torch.inference_mode():
            found = measure_draft(ar, config, CPU, num_frames=8, repeats=1)
        return found.read_gb * 1e9 / weights

    guessing = passes()
    monkeypatch.setattr(autoregressive, "_PASS", 1)
    one_by_one = passes()
    assert one_by_one == pytest.approx(8 * ar.codes_per_frame)
    assert 8 <= guessing < one_by_one  # one a frame at least


def test_memory_has_been_used() -> None:
    alive = torch.ones(10**8)
    used = peak_memory(CPU)
    assert used is not None
    assert alive.nbytes / 1e9 < used < 1000


def test_things_a_second_are_things_by_seconds(tiny_config: ModelConfig, tiny_modules: dict[str, nn.Module]) -> None:
    parts = ("text_encoder", "ar", "latent_vqvae", "dit", "video_vae")
    found = measure_stages(tiny_modules.__getitem__, parts, tiny_config, "a red hill", CPU, repeats=2)
    assert [stage.count for stage in found] == [1, 4 * 2 * 2, 3 * 2 * 2, 1, 4 * 5, 96]
    for stage in found:
        assert 0 < stage.seconds.least <= stage.seconds.median <= stage.seconds.most
        assert stage.rate.least <= stage.rate.median <= stage.rate.most
        per_second = 1000 / stage.rate.median if stage.unit == "ms/step" else stage.rate.median
        assert per_second == pytest.approx(stage.count / stage.seconds.median)
        assert stage.read_gb > 0
        assert stage.gflops > 0 or stage.name == "writer"
    vae = next(stage for stage in found if stage.name == "video VAE")
    assert vae.read_gb * 1e9 == pytest.approx(2 * weight_bytes(tiny_modules["video_vae"]))  # 4 latents, then one
    assert vae.convolution_gflops > vae.product_gflops


def test_a_segment_is_the_sum_of_its_stages(tiny_config: ModelConfig) -> None:
    def stage(name: str, count: int) -> Stage:
        return Stage(name, "", count, Spread(1.0, 1.0, 1.0), 0.0, 0.0, 0.0, None)

    # a second each for 4 codes, for all 12 codes, for a step of 2, and for 10 frames of 20
    stages = [stage("AR Transformer", 4), stage("latent VQ-VAE", 12), stage("DiT", 1), stage("video VAE", 10)]
    assert segment_numbers(stages, tiny_config) is None
    found = segment_numbers([*stages, stage("writer", 20)], tiny_config)
    assert found is not None
    assert found["seconds"] == pytest.approx(3 + 1 + 2 + 2 + 1)
    assert found["num_frames"] == 20
    assert found["frames_per_second"] == pytest.approx(20 / 9)


@pytest.mark.parametrize("kind", ["tiny_config", "tiny_opensora_config"])
def test_parts_with_random_weights_work_at_any_size(kind: str, request: pytest.FixtureRequest) -> None:
    config: ModelConfig = request.getfixturevalue(kind)
    sized = at_size(config, (48, 16))
    assert (sized.width, sized.height, sized.ar.code_width, sized.ar.code_height) == (48, 16, 3, 1)
    parts, left_out = buildable_parts(sized)
    assert ("text_encoder" in parts) == (not left_out) == (kind == "tiny_config")
    prompt = "a red hill"
    load = lambda part: random_part(part, sized, prompt, CPU, torch.float32)
    found = {stage.name: stage for stage in measure_stages(load, parts, sized, prompt, CPU, repeats=1)}
    assert found["AR Transformer"].count == 4 * 3
    assert len(found) == len(parts) + 1
    for part in parts:
        again = load(part).state_dict()
        weights = [p for name, p in load(part).named_parameters() if torch.equal(p, again[name])]
        assert len(weights) == len(list(load(part).parameters()))  # the same each time
        assert all(p.count_nonzero() for p in weights)
    with pytest.raises(InputError, match=r"40x16 is no size of whole codes: \S+ has one for each 16x16"):
        at_size(config, (40, 16))


def test_what_cannot_be_built_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random_parts, "find_spec", lambda name: None)
    parts, left_out = buildable_parts(OPENSORA_V1_2)
    assert parts == ["ar", "latent_vqvae", "dit"]
    assert any("diffusers" in line for line in left_out)
    assert "video_vae" in buildable_parts(DIORAMA)[0]
