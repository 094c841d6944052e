"""Uncertainty sampling draws from the features' own distribution (eq. 7)."""

import torch

from arlon_cli.models.semantic_injection import uncertainty_sampling


def test_sampled_features_spread_around_the_original_statistics() -> None:
    torch.manual_seed(0)
    mean, deviation = torch.tensor([1.0, -2.0]), torch.tensor([0.3, 0.1])
    features = mean + deviation * torch.randn(4096, 4, 16, 2)
    sampled = uncertainty_sampling(features)
    per_sample_std, per_sample_mean = torch.std_mean(sampled, dim=(1, 2))
    # μ̂ ~ N(μ, σ) and σ̂ ~ N(1, σ), one draw a sample and channel
    torch.testing.assert_close(per_sample_mean.mean(0), mean, atol=0.02, rtol=0)
    torch.testing.assert_close(per_sample_mean.std(0), deviation, atol=0.02, rtol=0)
    torch.testing.assert_close(per_sample_std.mean(0), torch.ones(2), atol=0.02, rtol=0)
    torch.testing.assert_close(per_sample_std.std(0), deviation, atol=0.02, rtol=0)
