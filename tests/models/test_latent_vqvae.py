"""The latent VQ-VAE: causal both ways, any length, and codes that survive a second quantisation."""

import pytest
import torch
from torch import Tensor

from arlon_cli.config import LatentVQVAEConfig
from arlon_cli.errors import InputError
from arlon_cli.models.latent_vqvae import CONDITION_CONTEXT, LatentVQVAE
from arlon_cli.presets import DIORAMA


def tiny(ratio: tuple[int, int, int]) -> LatentVQVAE:
    torch.manual_seed(0)
    config = LatentVQVAEConfig(
        latent_channels=3,
        ratio=ratio,
        width=16,
        num_res_blocks=2,
        num_refine_blocks=1,
        fine_width=8,
        num_heads=2,
        codebook_size=32,
        codebook_dim=8,
    )
    return LatentVQVAE(config).eval()


@pytest.fixture
def vqvae() -> LatentVQVAE:
    return tiny((2, 2, 2))


@pytest.fixture
def latents() -> Tensor:
    torch.manual_seed(1)
    return torch.randn(2, 3, 8, 4, 8)


@torch.no_grad()
@pytest.mark.parametrize("ratio", [(2, 2, 2), (2, 4, 4), (1, 2, 4), (4, 8, 8), (4, 16, 16)])
@pytest.mark.parametrize("frames", [1, 5, 8])
def test_shapes_of_any_ratio_and_length(ratio: tuple[int, int, int], frames: int) -> None:
    vqvae = tiny(ratio)
    t, h, w = -(-frames // ratio[0]), 2, 1
    codes = vqvae.encode(torch.randn(2, 3, frames, h * ratio[1], w * ratio[2]))
    assert codes.shape == (2, t, h, w)
    assert codes.dtype == torch.long
    assert vqvae.decode(codes).shape == (2, 3, t * ratio[0], h * ratio[1], w * ratio[2])


def test_a_size_that_does_not_fit_is_refused(vqvae: LatentVQVAE) -> None:
    with pytest.raises(InputError, match="multiples of 2 and 2, not 3 and 4"):
        vqvae.encode(torch.zeros(1, 3, 2, 3, 4))


@torch.no_grad()
def test_codes_do_not_see_later_latents(vqvae: LatentVQVAE, latents: Tensor) -> None:
    changed = latents.clone()
    changed[:, :, 4:] += 1
    before, after = vqvae.embed(latents), vqvae.embed(changed)
    assert torch.equal(before[:, :, :2], after[:, :, :2])
    assert not torch.allclose(before[:, :, 2], after[:, :, 2])


@torch.no_grad()
@pytest.mark.parametrize("ratio", [(2, 2, 2), (4, 2, 2)])
def test_a_prefix_of_codes_decodes_to_a_prefix(ratio: tuple[int, int, int]) -> None:
    vqvae = tiny(ratio)
    codes = torch.randint(32, (1, 20, 2, 3))
    whole = vqvae.decode(codes)
    for length in (1, 9, 19):
        prefix = vqvae.decode(codes[:, :length])
        torch.testing.assert_close(prefix, whole[:, :, : length * ratio[0]], rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("ratio", [(2, 2, 2), (4, 2, 2)])
def test_what_is_decoded_between_depends_on_a_few_codes_before_it(ratio: tuple[int, int, int]) -> None:
    vqvae, codes = tiny(ratio), torch.randint(32, (1, 40, 2, 3))
    whole = vqvae.decode(codes)
    for start, end in ((0, 5), (3, 8), (70, 75), (61, 63)):
        first, last = start // ratio[0], -(-end // ratio[0])
        condition = vqvae.decode_between(codes, start, end)
        assert condition.shape == (1, 3, end - start, 4, 6)
        assert torch.equal(condition, vqvae.decode_between(codes[:, :last], start, end))
        other = codes.clone()
        other[:, : max(0, first - CONDITION_CONTEXT)] += 1
        assert torch.equal(condition, vqvae.decode_between(other % 32, start, end))
        if first <= CONDITION_CONTEXT:
            torch.testing.assert_close(condition, whole[:, :, start:end], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_the_end_is_filled_up_with_the_last_latent(vqvae: LatentVQVAE, latents: Tensor) -> None:
    filled = torch.cat([latents[:, :, :7], latents[:, :, 6:7]], dim=2)
    assert torch.equal(vqvae.embed(latents[:, :, :7]), vqvae.embed(filled))


@torch.no_grad()
def test_far_into_a_steady_video_nothing_depends_on_the_place(vqvae: LatentVQVAE) -> None:
    codes = torch.randint(32, (1, 1, 2, 2)).expand(1, 60, 2, 2)
    condition = vqvae.decode(codes)
    torch.testing.assert_close(condition[:, :, 60:62], condition[:, :, 118:120], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_every_entry_of_the_codebook_has_its_own_code(vqvae: LatentVQVAE) -> None:
    entries = vqvae.codebook.T[None, :, :, None, None]  # (1, D, K, 1, 1)
    quantized, codes = vqvae.quantize(entries)
    assert torch.equal(codes.flatten(), torch.arange(32))
    assert torch.equal(quantized, entries)


@torch.no_grad()
def test_the_nearest_entry_is_taken(vqvae: LatentVQVAE, latents: Tensor) -> None:
    embedded = vqvae.embed(latents)
    quantized, codes = vqvae.quantize(embedded)
    vectors = embedded.movedim(1, -1).flatten(0, 3)
    assert torch.equal(codes.flatten(), torch.cdist(vectors, vqvae.codebook).argmin(1))
    assert torch.equal(vqvae.look_up(codes), quantized)
    torch.testing.assert_close(vqvae.decode(codes), vqvae.reconstruct(quantized))


def test_distances_stay_in_single_precision_under_autocast(vqvae: LatentVQVAE) -> None:
    codebook = vqvae.codebook
    codebook.copy_(10 + 0.01 * torch.randn_like(codebook))  # apart by less than bfloat16 can tell
    with torch.autocast("cpu", dtype=torch.bfloat16):
        codes = vqvae.quantize(codebook.T[None, :, :, None, None])[1]
    assert torch.equal(codes.flatten(), torch.arange(32))


@pytest.mark.parametrize("training", [False, True])
def test_forward_never_changes_the_codebook(vqvae: LatentVQVAE, latents: Tensor, training: bool) -> None:
    vqvae.train(training)
    before = {name: value.clone() for name, value in vqvae.state_dict().items()}
    vqvae.decode(vqvae.encode(latents)).sum().backward()
    assert all(torch.equal(before[name], value) for name, value in vqvae.state_dict().items())


@torch.no_grad()
def test_built_on_the_meta_device_it_takes_the_weights(vqvae: LatentVQVAE, latents: Tensor) -> None:
    with torch.device("meta"):
        loaded = LatentVQVAE(vqvae.config)
    loaded.load_state_dict(vqvae.state_dict(), strict=True, assign=True)
    codes = vqvae.encode(latents)
    assert torch.equal(loaded.encode(latents), codes)
    assert torch.equal(loaded.decode(codes), vqvae.decode(codes))


@torch.no_grad()
def test_bfloat16_stays_near(vqvae: LatentVQVAE, latents: Tensor) -> None:
    codes = vqvae.encode(latents)
    expected = vqvae.decode(codes)
    vqvae.to(torch.bfloat16)
    found = vqvae.decode(codes)
    assert found.dtype == torch.bfloat16
    assert (found.float() - expected).abs().mean() < 0.05 * expected.abs().mean()
    assert (vqvae.encode(latents.bfloat16()) == codes).float().mean() > 0.8


def test_sizes_of_the_dioramas() -> None:
    with torch.device("meta"):
        fine, coarse = (
            sum(p.numel() for p in LatentVQVAE(config).parameters())
            for config in (DIORAMA.latent_vqvae, DIORAMA.latent_vqvae_coarse)
        )
    assert 2_750_000 < fine < 3_250_000
    assert 500_000 < coarse < 1_000_000


@torch.no_grad()
@pytest.mark.parametrize("ratio", [(1, 2, 2), (2, 2, 2), (4, 2, 2)])
@pytest.mark.parametrize("frames", [1, 90, 203])
def test_streamed_codes_are_those_of_the_whole(ratio: tuple[int, int, int], frames: int) -> None:
    vqvae = tiny(ratio)
    latents = torch.randn(1, 3, frames, 2, 4)
    whole = vqvae.encode(latents)
    for size in (7, 64, 300):
        assert torch.equal(torch.cat(list(vqvae.encode_stream(latents.split(size, dim=2))), dim=1), whole)


@torch.no_grad()
@pytest.mark.parametrize("ratio", [(1, 2, 2), (2, 2, 2), (4, 2, 2)])
def test_streamed_conditions_are_those_of_the_whole(ratio: tuple[int, int, int]) -> None:
    vqvae = tiny(ratio)
    codes = torch.randint(32, (1, 70, 1, 2))
    streamed = list(vqvae.decode_stream(codes))
    assert len(streamed) > 2
    torch.testing.assert_close(torch.cat(streamed, dim=2), vqvae.decode(codes), rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("ratio", [(1, 2, 2), (2, 2, 2), (4, 2, 2)])
def test_nothing_depends_on_what_lies_before_the_context(ratio: tuple[int, int, int]) -> None:
    vqvae = tiny(ratio)
    latents = torch.randn(1, 3, 50 * ratio[0], 2, 2)
    changed = latents.clone()
    changed[:, :, : ratio[0]] += 1
    same = (vqvae.embed(latents) - vqvae.embed(changed)).abs().amax(dim=(0, 1, 3, 4)) == 0
    assert same[vqvae.context + 1 :].all()
    codes = torch.randint(32, (1, 50, 1, 1))
    other = torch.cat([(codes[:, :1] + 1) % 32, codes[:, 1:]], dim=1)
    same = (vqvae.decode(codes) - vqvae.decode(other)).abs().amax(dim=(0, 1, 3, 4)) == 0
    assert same[(vqvae.context + 1) * ratio[0] :].all()
