"""Numbers of the parts, where they are known beforehand."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from arlon_cli.evaluation import heldout
from arlon_cli.evaluation.prompts import held_out
from arlon_cli.models.ar_transformer import ARTransformer
from arlon_cli.models.attribute_classifier import AttributeClassifier
from arlon_cli.models.latent_vqvae import LatentVQVAE
from arlon_cli.models.text_encoder import TextEncoder
from arlon_cli.storage.checkpoint import Checkpoint

CPU = torch.device("cpu")


def test_psnr_of_a_known_error() -> None:
    pixels = torch.zeros(1, 3, 4, 8, 8)
    assert heldout.psnr(pixels, pixels + 0.2) == pytest.approx(20.0, abs=1e-4)  # a tenth of the range of 2
    assert heldout.psnr(pixels, pixels) == pytest.approx(120.0)


def test_codebook_use_of_known_codes() -> None:
    assert heldout.codebook_use(torch.zeros(2, 3, 4, 4, dtype=torch.long), 8) == pytest.approx((1 / 8, 1.0))
    assert heldout.codebook_use(torch.arange(8).repeat(5), 16) == pytest.approx((0.5, 8.0))
    usage, perplexity = heldout.codebook_use(torch.tensor([0, 0, 0, 1]), 4)
    assert usage == 0.5
    assert perplexity == pytest.approx(math.exp(0.75 * math.log(4 / 3) + 0.25 * math.log(4)))


def test_relative_error_is_0_for_perfect_and_1_for_mean_conditions(tiny_modules: dict[str, nn.Module]) -> None:
    vqvae = tiny_modules["latent_vqvae"]
    assert isinstance(vqvae, LatentVQVAE)
    with torch.no_grad():
        codes = torch.randint(0, 16, (3, 4, 2, 2), generator=torch.Generator().manual_seed(0))
        latents = vqvae.decode(codes)
        assert heldout.condition_error(vqvae, latents, codes) == pytest.approx(0, abs=1e-6)

        class Mean(LatentVQVAE):
            def decode(self, codes: Tensor) -> Tensor:
                return latents.mean(dim=(0, 2, 3, 4), keepdim=True).expand_as(latents)

        mean = Mean(vqvae.config)
        assert heldout.condition_error(mean, latents, codes) == pytest.approx(1.0, abs=1e-5)


def test_cross_entropy_of_a_model_that_knows_nothing(tiny_modules: dict[str, nn.Module]) -> None:
    text_encoder, known = tiny_modules["text_encoder"], tiny_modules["ar"]
    assert isinstance(text_encoder, TextEncoder)
    assert isinstance(known, ARTransformer)
    ar = ARTransformer(known.config)
    nn.init.zeros_(ar.norm.weight)
    codes = torch.randint(0, 16, (11, 6, 2, 2), generator=torch.Generator().manual_seed(0))  # longer than the window
    with torch.no_grad():
        nats = heldout.ar_cross_entropy(text_encoder, ar, ["a red hill"] * 11, codes)
    assert nats == pytest.approx(math.log(16 + 2))  # all codes, ⟨FRAME⟩ and ⟨EOS⟩ are as likely


def test_classifier_accuracy_of_one_that_always_says_the_same() -> None:
    classifier = AttributeClassifier({"family": ("coast", "volcano")})
    for parameter in classifier.parameters():
        nn.init.zeros_(parameter)
    with torch.no_grad():
        classifier.heads["family"].bias[1] = 1.0
        accuracy = heldout.classifier_accuracy(classifier, held_out(2), 32)  # a volcano and a coast
    assert accuracy == {"family": 0.5, "overall": 0.5}


def test_all_parts_of_a_checkpoint(tiny_checkpoint: Path) -> None:
    items = held_out(2)
    events: list[str] = []
    numbers = heldout.part_numbers(Checkpoint(tiny_checkpoint), items, CPU, torch.float32, events.append)
    assert list(numbers) == ["video_vae", "latent_vqvae", "latent_vqvae_coarse", "ar", "classifier"]
    assert all(math.isfinite(value) for part in numbers.values() for value in part.values())
    assert 0 < numbers["latent_vqvae"]["usage"] <= 1
    assert 1 <= numbers["latent_vqvae"]["perplexity"] <= 16
    assert set(numbers["ar"]) == {f"nats_per_code_with_{name}" for name in ("caption", "no_caption", "another_caption")}
    assert len(events) > 3
