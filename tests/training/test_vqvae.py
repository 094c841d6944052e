"""Training the latent VQ-VAE: the codebook finds clusters and revives what dies; a stopped run goes on as it was."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from arlon_cli.config import LatentVQVAEConfig
from arlon_cli.models.latent_vqvae import LatentVQVAE
from arlon_cli.training.loop import LoopSettings, Trained, train
from arlon_cli.training.vqvae import CodebookEMA, VQVAESettings, VQVAETraining, k_means, vqvae_loss

CONFIG = LatentVQVAEConfig(
    latent_channels=3,
    ratio=(2, 2, 2),
    width=16,
    num_res_blocks=1,
    num_refine_blocks=1,
    fine_width=8,
    num_heads=2,
    codebook_size=16,
    codebook_dim=8,
)
SETTINGS = VQVAESettings(
    num_latents=8,
    autoencoder_steps=20,
    start_batches=2,
    commitment_weight=0.25,
    codebook_decay=0.9,
    dead_below=0.03,
    lloyd_iterations=5,
)
MEANS = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])


def clusters(seed: int) -> Tensor:
    """Vectors (400, 2) around the four corners of a square."""
    generator = torch.Generator().manual_seed(seed)
    return (MEANS[:, None] + 0.5 * torch.randn(4, 100, 2, generator=generator)).flatten(0, 1)


def smooth_latents() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(2, 3, 3, 3, 3, generator=generator)
    return torch.nn.functional.interpolate(noise, size=(8, 8, 8), mode="trilinear", align_corners=True)


def farthest_mean(centres: Tensor) -> float:
    """How far the worst served cluster mean is from its nearest centre."""
    return torch.cdist(MEANS, centres).min(1).values.max().item()


@pytest.mark.parametrize("seed", range(5))
def test_k_means_finds_clusters(seed: int) -> None:
    torch.manual_seed(seed)
    assert farthest_mean(k_means(clusters(seed), 4, 10)) < 0.3


def test_k_means_of_fewer_vectors_than_centres_repeats_them() -> None:
    vectors = torch.eye(3)
    centres = k_means(vectors, 5, 2)
    assert centres.shape == (5, 3)
    assert torch.cdist(vectors, centres).min(1).values.max() < 1e-6


def test_averages_converge_to_the_means_of_clusters() -> None:
    torch.manual_seed(0)
    codebook = MEANS + torch.randn(4, 2)
    ema = CodebookEMA(codebook, decay=0.8, dead_below=0.03)
    for seed in range(40):
        ema.update(clusters(seed))
    assert farthest_mean(codebook) < 0.2
    assert ema.counts.tolist() == pytest.approx([100] * 4, rel=0.01)


def test_dead_codes_are_revived_where_the_codebook_fits_worst() -> None:
    torch.manual_seed(0)
    codebook = torch.full((8, 2), 1e3)
    codebook[0] = 0.0  # chosen by all
    ema = CodebookEMA(codebook, decay=0.8, dead_below=0.03)
    for seed in range(40):
        ema.update(clusters(seed))
    assert torch.cdist(codebook, MEANS).min(1).values.max() < 2
    assert farthest_mean(codebook) < 0.6


def test_start_is_k_means_and_goes_on_from_there() -> None:
    torch.manual_seed(0)
    codebook = torch.zeros(4, 2)
    ema = CodebookEMA(codebook, decay=0.99, dead_below=0.03)
    assert not ema.started
    ema.start(clusters(0), lloyd_iterations=10)
    assert ema.started
    started = codebook.clone()
    assert farthest_mean(started) < 0.3
    ema.update(clusters(0))
    torch.testing.assert_close(codebook, started, atol=1e-3, rtol=0)


def test_the_straight_through_gradient_reaches_the_encoder_and_no_gradient_the_codebook() -> None:
    torch.manual_seed(0)
    vqvae = LatentVQVAE(CONFIG)
    vqvae_loss(vqvae, smooth_latents(), commitment_weight=0.0, quantize=True)[0].backward()
    assert [name for name, p in vqvae.named_parameters() if p.grad is None or not p.grad.any()] == []
    assert vqvae.codebook.grad is None


def test_one_batch_is_learnt_with_most_codes_in_use() -> None:
    torch.manual_seed(0)
    vqvae, latents = LatentVQVAE(CONFIG), smooth_latents()
    training = VQVAETraining(vqvae, SETTINGS, lambda step: latents)
    optimizer = torch.optim.AdamW(vqvae.parameters(), lr=5e-3)
    history = []
    for step in range(80):
        loss, metrics = training.loss(latents)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        training.after_step(step)
        history.append({name: value.item() for name, value in metrics.items()})
    assert "perplexity" not in history[SETTINGS.autoencoder_steps - 1]
    assert history[0]["mse"] > 0.8
    assert history[-1]["mse"] < 0.25
    assert history[-1]["usage"] > 0.8
    assert 8 < history[-1]["perplexity"] <= 16
    with torch.no_grad():  # the metric is that of the codes, as they will be used
        condition = vqvae.decode(vqvae.encode(latents))
    assert (condition - latents).square().mean() / latents.var(dim=(0, 2, 3, 4)).mean() < 0.25


def test_autocast_to_bfloat16_stays_near() -> None:
    torch.manual_seed(0)
    vqvae, latents = LatentVQVAE(CONFIG), smooth_latents()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, _, embedded = vqvae_loss(vqvae, latents, commitment_weight=0.25, quantize=False)
    loss.backward()
    assert embedded.dtype == torch.float32
    expected = vqvae_loss(vqvae, latents, commitment_weight=0.25, quantize=False)[0]
    assert loss.item() == pytest.approx(expected.item(), rel=0.05)


def test_what_no_step_follows_is_forgotten() -> None:
    codebooks = []
    for trials in (0, 3):
        torch.manual_seed(0)
        vqvae, latents = LatentVQVAE(CONFIG), smooth_latents()
        training = VQVAETraining(vqvae, SETTINGS, lambda index, latents=latents: latents)
        training.codebook.adopt(latents[:, 0].numel())
        for _ in range(trials):
            training.loss(latents + 1)
            training.forget()
        training.loss(latents)
        torch.manual_seed(1)
        training.after_step(0)
        codebooks.append(vqvae.codebook.clone())
    assert torch.equal(*codebooks)


def run(folder: Path, num_steps: int, stop_after: int | None = None) -> Trained | None:
    torch.manual_seed(0)
    vqvae = LatentVQVAE(CONFIG)

    def batch_at(step: int) -> Tensor:
        return torch.randn(2, 3, 4, 4, 4, generator=torch.Generator().manual_seed(step))

    training = VQVAETraining(vqvae, SETTINGS, batch_at)
    calls = iter(range(1, num_steps + 1))
    loop = LoopSettings(
        learning_rate=5e-3,
        betas=(0.9, 0.99),
        weight_decay=0.0,
        warmup_steps=2,
        final_rate=0.1,
        clip_norm=1.0,
        ema_decay=0.9,
        save_seconds=1e9,
        seed=0,
    )
    return train(
        vqvae,
        batch_at,
        training.loss,
        loop,
        num_steps=num_steps,
        folder=folder,
        precision=torch.float32,
        after_step=training.after_step,
        extra=training.codebook.state_dict,
        load_extra=training.codebook.load_state_dict,
        stop=lambda: next(calls) == stop_after,
    )


@pytest.mark.parametrize("stop_after", [10, 25])
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path, stop_after: int) -> None:
    whole = run(tmp_path / "whole", 30)
    assert run(tmp_path / "parts", 30, stop_after=stop_after) is None
    resumed = run(tmp_path / "parts", 30)
    assert whole is not None and resumed is not None
    assert whole.metrics == resumed.metrics
    for name, value in whole.weights.items():
        assert torch.equal(value, resumed.weights[name]), name
