"""The decoder against a discriminator: what each of the two learns from, and that the codes stay."""

import pytest
import torch
from torch import Tensor

from arlon_cli.config import ModelConfig, VideoVAEConfig
from arlon_cli.models.latent_vqvae import LatentVQVAE
from arlon_cli.models.video_vae import VideoVAE
from arlon_cli.training.adversarial import PatchDiscriminator, loss
from arlon_cli.training.vqvae import relative_error

Parts = tuple[LatentVQVAE, VideoVAE, PatchDiscriminator, Tensor, Tensor]


@pytest.fixture
def parts(tiny_config: ModelConfig) -> Parts:
    torch.manual_seed(0)
    assert isinstance(tiny_config.video_vae, VideoVAEConfig)
    vae, vqvae = VideoVAE(tiny_config.video_vae).requires_grad_(False), LatentVQVAE(tiny_config.latent_vqvae)
    latents = torch.randn(2, 4, 4, 4, 4)
    return vqvae, vae, PatchDiscriminator(8), latents, vqvae.encode(latents)


def test_the_decoder_and_the_discriminator_learn_and_the_encoder_does_not(parts: Parts) -> None:
    vqvae, vae, discriminator, latents, codes = parts
    value, _ = loss(vqvae, vae, discriminator, latents, codes)
    value.backward()
    for module in (vqvae.decoder, discriminator):
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters() if p.dim() > 1)
    assert all(p.grad is None for p in vqvae.encoder.parameters())


def test_the_discriminator_learns_from_the_hinge_alone(parts: Parts) -> None:
    vqvae, vae, discriminator, latents, codes = parts
    value, _ = loss(vqvae, vae, discriminator, latents, codes)
    value.backward()
    pixels = [vae.decode(torch.cat([part, part])).detach() for part in (latents, vqvae.decode(codes))]
    real, fake = (discriminator(part)[0] for part in pixels)
    hinge = sum(((1 - r).relu().mean() + (1 + f).relu().mean()) / 3 for r, f in zip(real, fake, strict=True))
    expected = torch.autograd.grad(hinge, list(discriminator.parameters()))
    for parameter, gradient in zip(discriminator.parameters(), expected, strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, gradient)


def test_a_discriminator_that_knows_nothing_has_no_say(parts: Parts) -> None:
    vqvae, vae, discriminator, latents, codes = parts
    for head in discriminator.heads:
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.zeros_(head.bias)
    value, metrics = loss(vqvae, vae, discriminator, latents, codes)
    assert metrics["discriminator"] == 2
    value.backward()
    error = relative_error(vqvae.decode(codes), latents)
    expected = torch.autograd.grad(error, list(vqvae.decoder.parameters()))
    for parameter, gradient in zip(vqvae.decoder.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def learn(parts: Parts, what: str, metric: str) -> list[float]:
    """A metric over sixty steps of the decoder or the discriminator alone."""
    vqvae, vae, discriminator, latents, codes = parts
    learner = {"decoder": vqvae.decoder, "discriminator": discriminator}[what]
    optimizer = torch.optim.AdamW(learner.parameters(), lr=3e-3)
    found = []
    for _ in range(60):
        value, metrics = loss(vqvae, vae, discriminator, latents, codes)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        found.append(metrics[metric].item())
    return found


def test_a_discriminator_learns_to_tell_blurred_from_sharp(parts: Parts) -> None:
    found = learn(parts, "discriminator", "discriminator")
    assert found[0] > 1.8
    assert found[-1] < 0.5 * found[0]


def test_a_decoder_is_pulled_towards_the_latents(parts: Parts) -> None:
    found = learn(parts, "decoder", "mse")
    assert found[-1] < 0.8 * found[0]
