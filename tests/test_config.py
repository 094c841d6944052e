"""Presets survive their JSON, and that of the paper's scale has the paper's sizes."""

import json
import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from arlon_cli.config import Chunk, ModelConfig
from arlon_cli.errors import CheckpointError
from arlon_cli.models.ar_transformer import ARTransformer
from arlon_cli.models.latent_vqvae import LatentVQVAE
from arlon_cli.models.stdit import STDiT3
from arlon_cli.pipeline.segments import plan_segments
from arlon_cli.presets import DIORAMA, OPENSORA_V1_2, PRESETS

CONFIG = OPENSORA_V1_2


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_their_json(name: str) -> None:
    assert ModelConfig.from_json(PRESETS[name].to_json()) == PRESETS[name]


def test_what_is_not_published_is_not_mentioned() -> None:
    assert "published" not in json.loads(DIORAMA.to_json())


@pytest.mark.parametrize("chunk", [DIORAMA.video_vae.chunk, OPENSORA_V1_2.video_vae.chunk])
def test_frames_and_latents_of_whole_chunks_agree(chunk: Chunk) -> None:
    ends = [chunk.frames(num_latents) for num_latents in range(60)]
    assert all(a < b <= a + 4 for a, b in pairwise(ends))  # each latent stands for one to four frames
    for num_frames in range(1, 200):
        num_latents = chunk.latents(num_frames)
        assert num_latents % chunk.num_latents == 0
        assert num_frames <= chunk.frames(num_latents) < num_frames + chunk.num_frames
        assert chunk.filled(num_frames) == min(end for end in ends if end >= num_frames)


def test_the_papers_long_videos_are_whole_segments() -> None:
    chunk, segments = OPENSORA_V1_2.video_vae.chunk, OPENSORA_V1_2.segments
    assert (chunk.frames(segments.num_latents), chunk.frames(segments.overlap)) == (68, 17)
    planned = plan_segments(chunk.latents(731), segments)
    assert len(planned) == 14
    assert {segment.end - segment.start for segment in planned} == {segments.num_latents}


def altered(config: ModelConfig, part: str, **changes: Any) -> str:
    data = json.loads(config.to_json())
    for name, value in changes.items():
        if value is None:
            del data[part][name]
        else:
            data[part][name] = value
    return json.dumps(data)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (altered(CONFIG, "video_vae", spatial=None), "video_vae: missing spatial"),
        (altered(CONFIG, "video_vae", colour=1), "video_vae: unknown colour"),
        (altered(DIORAMA, "video_vae", widths=None), "video_vae: missing widths"),
        (altered(CONFIG, "text_encoder", vocab_size=9), "text_encoder: unknown vocab_size"),
        (altered(CONFIG, "published", dit=None), "published: missing dit"),
        (json.dumps(json.loads(CONFIG.to_json()) | {"video_vae": 3}), "video_vae: expected an object, found int"),
        (json.dumps(json.loads(CONFIG.to_json()) | {"height": [128]}), r"height is \[128\], which is no int"),
        (json.dumps(json.loads(CONFIG.to_json()) | {"fps": True}), "fps is true, which is no int"),
        (altered(CONFIG, "latent_vqvae", ratio=4), r"ratio is 4, which is no tuple\[int, int, int\]"),
        (altered(CONFIG, "latent_vqvae", ratio=[4, 8]), r"ratio is \[4, 8\], which is no tuple\[int, int, int\]"),
        (altered(CONFIG, "latent_vqvae", ratio=["a", 8, 8]), "ratio is .*, which is no tuple"),
        (altered(CONFIG, "injection", layers=[0.5]), r"layers is \[0.5\], which is no tuple\[int, ...\]"),
        (altered(CONFIG, "sampling", guidance_scale=math.nan), "guidance_scale is NaN, which is no float"),
    ],
)
def test_a_wrong_field_is_named(text: str, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        ModelConfig.from_json(text)


def millions(module: nn.Module | None) -> float:
    assert module is not None
    return sum(parameter.numel() for parameter in module.parameters()) / 1e6


def test_full_size_has_the_papers_numbers_of_parameters() -> None:
    with torch.device("meta"):
        backbone, guided = STDiT3(CONFIG.dit), STDiT3(CONFIG.dit, CONFIG.injection)
        ar = ARTransformer(CONFIG.ar)
        vqvaes = [LatentVQVAE(config) for config in (CONFIG.latent_vqvae, CONFIG.latent_vqvae_coarse)]
    assert math.isclose(millions(backbone), 1207.6, rel_tol=1e-4)
    assert math.isclose(millions(guided.injection), 92, rel_tol=0.03)
    assert 160 <= millions(ar) <= 195
    assert all(math.isclose(millions(vqvae), 30, rel_tol=0.15) for vqvae in vqvaes)


@pytest.mark.parametrize(("injected", "expected"), [(False, 42.626e12), (True, 46.461e12)])
def test_one_step_costs_what_table_4_says(injected: bool, expected: float) -> None:
    size = (1, 4, CONFIG.segments.num_latents, CONFIG.height // 8, CONFIG.width // 8)
    with torch.device("meta"):
        model = STDiT3(CONFIG.dit, CONFIG.injection if injected else None).eval().requires_grad_(False)
        x_t, text, mask = torch.empty(size), torch.empty(1, 300, 4096), torch.ones(1, 300, dtype=torch.bool)
        timestep = fps = torch.empty(1)
    condition = x_t if injected else None
    with FlopCounterMode(display=False) as counter:
        model(x_t, timestep, text, fps=fps, height=512, width=512, text_mask=mask, condition=condition)
    counts = counter.get_flop_counts()["Global"]
    attention = torch.ops.aten.bmm  # what attention is made of on the meta device; no other layer has any
    assert math.isclose(sum(counts.values()) - counts[attention], expected, rel_tol=0.01), counts
