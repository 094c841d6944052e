from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from arlon_cli.config import TextEncoderConfig
from arlon_cli.dioramas import caption, mentioned, sample_scene, vocabulary
from arlon_cli.models.ar_transformer import ARTransformer
from arlon_cli.models.text_encoder import TextEncoder, build_tokenizer
from arlon_cli.presets import DIORAMA
from arlon_cli.sampling.autoregressive import Span, draft
from arlon_cli.training.classifier import VISIBLE
from arlon_cli.training.reader_guidance import GUIDANCE, draw, own_drafts, reader_guidance_loss

TEXT = TextEncoderConfig(vocab_size=1536, width=16, num_layers=1, num_heads=2, ffn_width=24, max_tokens=80)
AR = replace(
    DIORAMA.ar,
    text_width=16,
    codebook_size=32,
    code_height=2,
    code_width=2,
    width=32,
    num_layers=2,
    num_heads=2,
    ffn_width=64,
)
VALUES = [(name, value) for name, values in VISIBLE.items() for value in values]


@pytest.fixture
def model() -> ARTransformer:
    torch.manual_seed(0)
    model = ARTransformer(AR).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


@pytest.fixture
def text_encoder() -> TextEncoder:
    torch.manual_seed(1)
    return TextEncoder(TEXT, build_tokenizer(vocabulary(), TEXT)).eval()


class Partial(nn.Module):
    """Takes even codes for a sign of all that is wanted, and odd ones for a sign against it."""

    def forward(self, codes: Tensor, candidates: Tensor) -> Tensor:
        likelihood = torch.where(candidates % 2 == 0, 0.9, 0.1).log()
        return likelihood.unsqueeze(-1).expand(*candidates.shape, len(VALUES)) / 3


@torch.no_grad()
def test_each_row_is_drawn_as_it_would_be_alone(model: ARTransformer, text_encoder: TextEncoder) -> None:
    model.head.weight *= 1e4  # so that the likeliest is drawn
    text, text_mask = text_encoder.encode(["a calm volcano", "a red sailboat in a storm, at night, seen from afar"])
    greedy = {"temperature": 0.0, "top_k": 1, "guidance_scale": 1.0}
    drawn = draw(model, text, text_mask, 3)
    for row in range(2):
        alone = list(draft(model, [Span(text[row], text_mask[row], 3)], seed=0, **greedy))  # type: ignore[arg-type]
        assert torch.equal(drawn[row], torch.stack(alone))
    assert torch.equal(draw(model, text, text_mask, 3, given=drawn[:, :2]), drawn)


@torch.no_grad()
def test_codes_follow_the_model(model: ARTransformer, text_encoder: TextEncoder) -> None:
    text, text_mask = text_encoder.encode(["a calm volcano"])
    torch.manual_seed(0)
    codes = draw(model, text.expand(2000, -1, -1), text_mask.expand(2000, -1), 1)
    first = codes[:, 0, 0, 0].bincount(minlength=32) / 2000
    expected = model(text, text_mask, torch.empty(1, 0, 2, 2, dtype=torch.long))[0, 0, :32].softmax(-1)
    assert (first - expected).abs().max() < 0.04
    assert codes.max() < 32


@pytest.mark.parametrize("changing", [False, True])
def test_what_is_wanted_is_what_the_prompt_mentions(
    model: ARTransformer, text_encoder: TextEncoder, changing: bool
) -> None:
    seeds = range(12)
    drafts = own_drafts(model, text_encoder, seeds, changing=changing)
    assert drafts.num_given == int(changing)
    assert drafts.codes.shape == (12, 5 if changing else 1, 2, 2)
    for seed, wanted in zip(seeds, drafts.wanted, strict=True):
        scene = sample_scene(seed, num_frames=256, changing=changing)
        index = len(scene.spans) - 1 if changing else 0
        attributes = scene.spans[index].attributes
        said = mentioned(caption(scene, index, seed), attributes) & VISIBLE.keys()
        assert {VALUES[place] for place in wanted.nonzero().flatten().tolist()} == {
            (name, attributes[name]) for name in said
        }


def test_the_loss_is_that_of_the_guided_reference(model: ARTransformer, text_encoder: TextEncoder) -> None:
    torch.manual_seed(0)
    drafts = own_drafts(model, text_encoder, range(3), changing=True)
    wishes = drafts.wanted.sum(1)
    logits = model(drafts.text, drafts.text_mask, drafts.codes)[:, 5:-1, :32].unflatten(1, (4, 5))[:, :, :4]
    read = Partial()(drafts.codes, torch.arange(32))[..., 0]
    guided = (logits + GUIDANCE * wishes.view(3, 1, 1, 1) * read).softmax(-1)
    expected = (guided * (guided.log() - logits.log_softmax(-1))).sum(-1).mean()
    loss, metrics = reader_guidance_loss(model, model, Partial(), drafts)  # type: ignore[arg-type]
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
    last = drafts.codes[:, 1:, -1, -1] % 2 == 0
    shown = torch.where(last, 0.9, 0.1) ** (1 / 3)
    expected_shown = (shown.sum(1) * wishes).sum() / (4 * wishes.sum())
    assert metrics["shown"].item() == pytest.approx(expected_shown.item(), rel=1e-4)


def test_a_model_learns_to_draw_what_the_reader_finds_right(model: ARTransformer, text_encoder: TextEncoder) -> None:
    student = deepcopy(model).train()
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-3)
    for step in range(40):
        torch.manual_seed(step)
        drafts = own_drafts(student, text_encoder, range(8), changing=False)
        loss, _ = reader_guidance_loss(model, student, Partial(), drafts)  # type: ignore[arg-type]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.manual_seed(0)
    before, after = (own_drafts(some, text_encoder, range(50), changing=False).codes for some in (model, student))
    assert (before % 2 == 0).float().mean() < 0.7
    assert (after % 2 == 0).float().mean() > 0.9
