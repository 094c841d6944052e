"""The temporal VAE gives Open-Sora v1.2's own numbers; the whole VAE streams what it does at once."""

import ast
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from arlon_cli.config import OpenSoraVAEConfig, SpatialVAEConfig, TemporalVAEConfig
from arlon_cli.errors import ArlonError, InputError
from arlon_cli.models.opensora_vae import ChunkedTemporalVAE, OpenSoraVAE
from arlon_cli.presets import OPENSORA_V1_2

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
    torch.testing.assert_close(vae.compress(tensors["pipe.in"]), tensors["pipe.latents"], atol=1e-4, rtol=0)
    decoded = vae.expand(tensors["pipe.latents"], tensors["pipe.in"].shape[2])
    torch.testing.assert_close(decoded, tensors["pipe.decoded"], atol=1e-4, rtol=0)


def test_full_size_has_the_published_names_and_shapes() -> None:
    assert isinstance(OPENSORA_V1_2.video_vae, OpenSoraVAEConfig)
    with torch.device("meta"):
        vae = ChunkedTemporalVAE(OPENSORA_V1_2.video_vae.temporal)
    ours = {name: tuple(t.shape) for name, t in vae.temporal_vae.state_dict(prefix="temporal_vae.").items()}
    lines = (GOLDEN / "vae_temporal_sd_keys.txt").read_text().splitlines()
    published = {name: ast.literal_eval(shape) for name, shape, *_ in (line.split("\t") for line in lines)}
    assert ours == published


TINY = OpenSoraVAEConfig(
    spatial=SpatialVAEConfig(4, (8, 8, 8, 8), 1, 4, 0.18215, 4),
    temporal=TemporalVAEConfig(4, 4, 4, 8, 1, (1, 1, 2, 2), (False, True, True), 4),
)


@pytest.fixture(scope="module")
def tiny() -> OpenSoraVAE:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return OpenSoraVAE(TINY).eval().requires_grad_(False)


def pixels(num_frames: int) -> Tensor:
    return torch.rand(1, 3, num_frames, 16, 24, generator=torch.Generator().manual_seed(num_frames)) * 2 - 1


@pytest.mark.parametrize(("num_frames", "num_latents"), [(1, 1), (5, 2), (17, 5), (34, 10), (18, 6), (68, 20)])
def test_17_frames_are_5_latents(tiny: OpenSoraVAE, num_frames: int, num_latents: int) -> None:
    latents = tiny.encode(pixels(num_frames))
    assert latents.shape == (1, 4, num_latents, 2, 3)
    assert tiny.decode(latents).shape == (1, 3, num_frames, 16, 24)


def test_whatever_the_pieces_a_stream_gives_the_whole(tiny: OpenSoraVAE) -> None:
    clip = pixels(39)
    latents = tiny.encode(clip)
    for length in (1, 4, 17, 20):
        streamed = torch.cat(list(tiny.encode_stream(clip.split(length, dim=2))), dim=2)
        torch.testing.assert_close(streamed, latents, atol=1e-5, rtol=0)
    frames = tiny.decode(latents)
    for length in (1, 4, 5, 7):
        streamed = torch.cat(list(tiny.decode_stream(latents.split(length, dim=2))), dim=2)
        torch.testing.assert_close(streamed, frames, atol=1e-5, rtol=0)


def test_a_chunk_comes_as_soon_as_its_latents_are_there(tiny: OpenSoraVAE) -> None:
    taken = []

    def pieces():  # type: ignore[no-untyped-def]
        for piece in tiny.encode(pixels(34)).split(1, dim=2):
            taken.append(piece)
            yield piece

    assert next(tiny.decode_stream(pieces())).shape[2] == 17
    assert len(taken) == 5


def test_chunks_do_not_see_each_other(tiny: OpenSoraVAE) -> None:
    clip = pixels(34)
    changed = clip.clone()
    changed[:, :, 17:] = 0
    torch.testing.assert_close(tiny.encode(changed)[:, :, :5], tiny.encode(clip)[:, :, :5], atol=1e-5, rtol=0)


def test_micro_batches_change_nothing_and_the_scaling_factor_counts(tiny: OpenSoraVAE) -> None:
    whole = OpenSoraVAE(replace(TINY, spatial=replace(TINY.spatial, micro_batch=100)))
    whole.load_state_dict(tiny.state_dict())
    torch.testing.assert_close(whole.encode(pixels(17)), tiny.encode(pixels(17)), atol=1e-5, rtol=0)
    latents = tiny.spatial_vae.encode(pixels(1))
    torch.testing.assert_close(
        latents[:, :, 0], tiny.spatial_vae.module.encode(pixels(1)[:, :, 0]).latent_dist.mean * 0.18215
    )


def test_sizes_that_do_not_fit_are_named(tiny: OpenSoraVAE) -> None:
    with pytest.raises(InputError, match="8 pixels, not 20x16"):
        tiny.encode(torch.zeros(1, 3, 1, 16, 20))


def test_the_whole_vae_has_the_published_parts() -> None:
    assert isinstance(OPENSORA_V1_2.video_vae, OpenSoraVAEConfig)
    with torch.device("meta"):
        vae = OpenSoraVAE(OPENSORA_V1_2.video_vae)
    names = vae.state_dict()
    spatial = [name for name in names if name.startswith("spatial_vae.module.")]
    assert len(spatial) == 248
    assert {name for name in names if not name.startswith(("spatial_vae.module.", "temporal_vae."))} == {
        "shift",
        "scale",
    }
    assert round(sum(names[name].numel() for name in spatial) / 1e6, 2) == 83.65
    assert names["spatial_vae.module.decoder.mid_block.attentions.0.to_q.weight"].shape == (512, 512)


def test_without_diffusers_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(ArlonError, match=r"pip install 'arlon\[opensora\]'"):
        OpenSoraVAE(TINY)
