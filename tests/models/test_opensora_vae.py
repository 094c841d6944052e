"""The temporal VAE gives Open-Sora v1.2's own numbers, and has its names at full size."""

import ast
import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from arlon_cli.config import OPENSORA_V1_2, OpenSoraVAEConfig, TemporalVAEConfig
from arlon_cli.models.opensora_vae import ChunkedTemporalVAE

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="module")
def golden() -> tuple[ChunkedTemporalVAE, dict[str, Tensor]]:
    with safe_open(GOLDEN / "vae_temporal_small.safetensors", "pt") as stored:
        tensors = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118 - not a dict
        config = json.loads(stored.metadata()["config"])
    config = {name: tuple(value) if isinstance(value, list) else value for name, value in config.items()}
    vae = ChunkedTemporalVAE(TemporalVAEConfig(**config))
    weights = {key.removeprefix("weights."): t for key, t in tensors.items() if key.startswith("weights.")}
    vae.temporal_vae.load_state_dict(weights)
    return vae.requires_grad_(False), tensors


@pytest.mark.parametrize("frames", [5, 17])
def test_one_chunk_gives_the_reference(golden: tuple[ChunkedTemporalVAE, dict[str, Tensor]], frames: int) -> None:
    vae, tensors = golden
    mean, logvar = vae.temporal_vae.posterior(tensors[f"in.x{frames}"])
    torch.testing.assert_close(mean, tensors[f"out.mean{frames}"], atol=1e-4, rtol=0)
    torch.testing.assert_close(logvar, tensors[f"out.logvar{frames}"], atol=1e-4, rtol=0)
    decoded = vae.temporal_vae.reconstruct(tensors[f"out.mean{frames}"], frames)
    torch.testing.assert_close(decoded, tensors[f"out.decoded{frames}"], atol=1e-4, rtol=0)


def test_a_clip_in_chunks_gives_the_reference(golden: tuple[ChunkedTemporalVAE, dict[str, Tensor]]) -> None:
    vae, tensors = golden
    torch.testing.assert_close(vae.encode(tensors["pipe.in"]), tensors["pipe.latents"], atol=1e-4, rtol=0)
    decoded = vae.decode(tensors["pipe.latents"], tensors["pipe.in"].shape[2])
    torch.testing.assert_close(decoded, tensors["pipe.decoded"], atol=1e-4, rtol=0)


def test_full_size_has_the_published_names_and_shapes() -> None:
    assert isinstance(OPENSORA_V1_2.video_vae, OpenSoraVAEConfig)
    with torch.device("meta"):
        vae = ChunkedTemporalVAE(OPENSORA_V1_2.video_vae.temporal)
    ours = {name: tuple(t.shape) for name, t in vae.temporal_vae.state_dict(prefix="temporal_vae.").items()}
    lines = (GOLDEN / "vae_temporal_sd_keys.txt").read_text().splitlines()
    published = {name: ast.literal_eval(shape) for name, shape, *_ in (line.split("\t") for line in lines)}
    assert ours == published
