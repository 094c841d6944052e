import pytest
import torch

from arlon_cli.config import ModelConfig
from arlon_cli.models.draft_ranker import DraftRanker
from arlon_cli.presets import DIORAMA
from arlon_cli.training.classifier import VISIBLE


@pytest.fixture
def ranker(tiny_config: ModelConfig) -> DraftRanker:
    torch.manual_seed(0)
    assert tiny_config.ranker is not None
    return DraftRanker(tiny_config.ranker).eval()


def test_the_preset_reads_what_a_frame_shows() -> None:
    config = DIORAMA.ranker
    assert config is not None
    assert config.num_values == tuple(len(values) for values in VISIBLE.values())
    assert config.text_width == DIORAMA.text_encoder.width
    vqvae = DIORAMA.latent_vqvae
    assert config.condition_channels == vqvae.latent_channels * vqvae.ratio[0]


@torch.no_grad()
def test_probabilities_of_each_attribute_add_up_to_one(ranker: DraftRanker) -> None:
    shown = ranker.shows(torch.randn(3, 4, 2, 4, 4)).exp()
    for some in shown.split(ranker.config.num_values, dim=1):
        assert torch.allclose(some.sum(1), torch.ones(3), atol=1e-5)


@torch.no_grad()
def test_padding_of_the_text_does_not_matter(ranker: DraftRanker) -> None:
    text = torch.randn(1, 12, 16)
    mask = torch.arange(12)[None] < 5
    assert torch.allclose(ranker.mentions(text, mask), ranker.mentions(text[:, :5], mask[:, :5]), atol=1e-6)
    assert not torch.allclose(ranker.mentions(text, mask), ranker.mentions(text, torch.ones_like(mask)))


@torch.no_grad()
def test_what_is_mentioned_decides_the_order(ranker: DraftRanker) -> None:
    ranker.mentioned.weight.zero_()
    _, logits = ranker.mentioned.bias.chunk(2)
    text, mask, frames = torch.randn(1, 4, 16), torch.ones(1, 4, dtype=torch.bool), torch.randn(6, 4, 2, 4, 4)
    for value in (0, 20, 44):
        logits.fill_(-1e3)
        logits[value] = 1e3
        assert torch.allclose(ranker(text, mask, frames, first=False), ranker.shows(frames)[:, value])


@torch.no_grad()
def test_any_of_several_values_that_are_mentioned_will_do(ranker: DraftRanker) -> None:
    ranker.mentioned.weight.zero_()
    _, logits = ranker.mentioned.bias.chunk(2)
    text, mask, frames = torch.randn(1, 4, 16), torch.ones(1, 4, dtype=torch.bool), torch.randn(6, 4, 2, 4, 4)
    logits.fill_(-1e3)
    logits[1] = logits[3] = 1e3  # of one attribute
    either = ranker.shows(frames)[:, [1, 3]].logsumexp(1)
    assert torch.allclose(ranker(text, mask, frames, first=False), either, atol=1e-5)


@torch.no_grad()
def test_what_is_usual_is_preferred_where_a_first_prompt_says_nothing_of_it(ranker: DraftRanker) -> None:
    ranker.mentioned.weight.zero_()
    _, logits = ranker.mentioned.bias.chunk(2)
    text, mask, frames = torch.randn(1, 4, 16), torch.ones(1, 4, dtype=torch.bool), torch.randn(6, 4, 2, 4, 4)
    shown, sizes = ranker.shows(frames), ranker.config.num_values
    starts = [sum(sizes[:number]) for number in range(len(sizes))]
    usual = [start + index for start, index in zip(starts, ranker.config.usual, strict=True) if index >= 0]
    assert usual
    logits.fill_(-1e3)
    preferred = ranker.config.preference * shown[:, usual].exp().sum(1)
    assert torch.allclose(ranker(text, mask, frames, first=True), preferred)
    assert not ranker(text, mask, frames, first=False).any()
    for value in usual:  # what the prompt mentions, be it as usual, is not preferred besides
        logits.fill_(-1e3)
        logits[value] = 1e3
        others = ranker.config.preference * shown[:, [other for other in usual if other != value]].exp().sum(1)
        assert torch.allclose(ranker(text, mask, frames, first=True), shown[:, value] + others, atol=1e-5)


def test_the_preset_prefers_a_clear_day_and_no_company() -> None:
    assert DIORAMA.ranker is not None
    usual = zip(VISIBLE.items(), DIORAMA.ranker.usual, strict=True)
    assert {name: values[index] for (name, values), index in usual if index >= 0} == {
        "time": "day",
        "weather": "clear",
        "company": "none",
    }
