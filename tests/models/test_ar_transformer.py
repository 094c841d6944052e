import dataclasses

import pytest
import torch
from torch import Tensor

from arlon_cli.config import ARConfig
from arlon_cli.models.ar_transformer import ARTransformer
from arlon_cli.presets import DIORAMA

CONFIG = ARConfig(
    text_width=12,
    max_text_tokens=6,
    codebook_size=16,
    code_height=2,
    code_width=3,
    window_frames=4,
    previous_frame_input=True,
    text_mean_input=True,
    prompt_end_input=True,
    anchor_frame=True,
    width=16,
    num_layers=2,
    num_heads=2,
    ffn_width=32,
    dropout=0.0,
)
TOKENS = 7  # of a frame: 6 codes and FRAME


@pytest.fixture
def model() -> ARTransformer:
    torch.manual_seed(0)
    model = ARTransformer(CONFIG).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # weights large enough for differences to show
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


@pytest.fixture
def codes() -> Tensor:
    return torch.randint(16, (2, 4, 2, 3), generator=torch.Generator().manual_seed(1))


@pytest.fixture
def text() -> Tensor:
    return torch.randn(2, 6, 12, generator=torch.Generator().manual_seed(2))


TEXT_MASK = torch.tensor([[True] * 4 + [False] * 2, [True] + [False] * 5])


def test_targets_are_frames_in_raster_order_with_marks(model: ARTransformer) -> None:
    codes = torch.arange(12).view(1, 2, 2, 3)
    assert model.targets(codes).tolist() == [[0, 1, 2, 3, 4, 5, 16, 6, 7, 8, 9, 10, 11, 16, 17]]


def test_logits_are_in_line_with_targets(model: ARTransformer, text: Tensor, codes: Tensor) -> None:
    logits = model(text, TEXT_MASK, codes)
    assert logits.shape == (*model.targets(codes).shape, 18)


@pytest.mark.parametrize("changed", [0, 5, 6, 13, 23])
def test_a_code_acts_on_the_logits_behind_it_alone(
    model: ARTransformer, text: Tensor, codes: Tensor, changed: int
) -> None:
    logits = model(text, TEXT_MASK, codes)
    codes.flatten(1)[:, changed] = (codes.flatten(1)[:, changed] + 1) % 16
    place = changed // 6 * TOKENS + changed % 6
    difference = (model(text, TEXT_MASK, codes) - logits).abs().amax(dim=(0, 2))
    assert difference[: place + 1].max() < 1e-5
    assert difference[place + 1 :].min() > 1e-4


def test_text_acts_on_every_logit_and_padding_on_none(model: ARTransformer, text: Tensor, codes: Tensor) -> None:
    logits = model(text, TEXT_MASK, codes)
    padding = torch.where(TEXT_MASK[..., None], text, 7.0)
    torch.testing.assert_close(model(padding, TEXT_MASK, codes), logits)
    torch.testing.assert_close(model(text[:, :4], TEXT_MASK[:, :4], codes), logits)
    for token in range(4):
        other = text.clone()
        other[0, token] += 1
        assert (model(other, TEXT_MASK, codes) - logits)[0].abs().amax(-1).min() > 1e-5


def test_text_tokens_see_later_text_tokens(model: ARTransformer, text: Tensor, codes: Tensor) -> None:
    text.requires_grad_()
    cache = model.prefill_text(text, TEXT_MASK, 1)
    cache._layers[1][0, 0, :, 0].sum().backward()  # the second layer's keys of the first token
    assert (text.grad[0, :4].abs().amax(-1) > 0).all()
    assert text.grad[0, 4:].abs().max() == 0


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("prefilled", [0, 1, 3])
@pytest.mark.parametrize("mask", [TEXT_MASK, TEXT_MASK[:1].expand(2, -1)], ids=["ragged", "even"])
def test_cached_logits_equal_the_whole_forward(
    model: ARTransformer, text: Tensor, codes: Tensor, prefilled: int, count: int, mask: Tensor
) -> None:
    codes = codes[:1].expand(2, -1, -1, -1)
    with torch.no_grad():
        whole = model(text, mask, codes)
        cache = model.prefill_text(text, mask, 4)
        model.prefill(codes[0], cache)  # what another window left behind does not matter
        logits = [model.prefill(codes[0, :prefilled], cache).unsqueeze(1)]
        for tokens in model.targets(codes)[0, prefilled * TOKENS : -1].split(count):
            model.step(torch.tensor([[3], [3]]), cache)
            cache.length -= 1  # a token that is taken back leaves no trace
            logits.append(model.step(tokens.expand(2, -1), cache))
    torch.testing.assert_close(torch.cat(logits, 1), whole[:, prefilled * TOKENS :], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("ended", [1, 2])
def test_frames_of_another_prompt_are_marked_behind_the_last(
    model: ARTransformer, text: Tensor, codes: Tensor, ended: int
) -> None:
    codes = codes[:1].expand(2, -1, -1, -1)
    with torch.no_grad():
        plain, marked = (model(text, TEXT_MASK, codes, torch.tensor([0, count])) for count in (0, ended))
        difference = (marked - plain).abs().amax(-1)
        assert difference[0].max() == 0
        assert difference[1, : ended * TOKENS].max() < 1e-5
        assert difference[1, ended * TOKENS :].min() > 1e-4
        cache = model.prefill_text(text, TEXT_MASK, 4)
        logits = [model.prefill(codes[0, :2], cache, ended)]
        for token in model.targets(codes)[0, 2 * TOKENS : -1]:
            logits.append(model.step(token.expand(2, 1), cache)[:, 0])
        torch.testing.assert_close(torch.stack(logits, 1)[1], marked[1, 2 * TOKENS :], atol=1e-5, rtol=1e-4)
        model.config = dataclasses.replace(CONFIG, prompt_end_input=False)
        assert torch.equal(model(text, TEXT_MASK, codes, torch.tensor([0, ended])), plain)


def test_rows_may_have_tokens_of_their_own(model: ARTransformer, text: Tensor, codes: Tensor) -> None:
    assert not torch.equal(codes[0], codes[1])
    with torch.no_grad():
        whole = model(text, TEXT_MASK, codes)
        cache = _started(model, model.prefill_text(text, TEXT_MASK, 4))
        logits = [model.step(tokens, cache) for tokens in model.targets(codes)[:, :-1].split(1, dim=1)]
    torch.testing.assert_close(torch.cat(logits, 1), whole[:, 1:], atol=1e-5, rtol=1e-4)


def test_repeated_rows_go_on_as_each_would_alone(model: ARTransformer, text: Tensor, codes: Tensor) -> None:
    with torch.no_grad():
        cache = model.prefill_text(text, TEXT_MASK, 4)
        model.prefill(codes[0, :2], cache)
        tokens = torch.randint(0, 8, (6, 3), generator=torch.Generator().manual_seed(0))
        repeated = cache.repeated(3)
        together = model.step(tokens, repeated).view(2, 3, 3, -1)
        for number in range(3):
            alone = model.step(tokens.view(2, 3, 3)[:, number], cache)
            torch.testing.assert_close(together[:, number], alone, atol=1e-5, rtol=1e-4)
            cache.length -= 3
    assert repeated.length == cache.length + 3


def test_cache_holds_the_request_and_no_padding(model: ARTransformer, text: Tensor) -> None:
    cache = model.prefill_text(text, TEXT_MASK, 3)
    assert cache._layers[0].shape == (2, 2, 2, 4 + 1 + 3 * TOKENS, 8)
    assert cache.step_bias is not None
    assert model.prefill_text(text[:1], TEXT_MASK[:1], 3).step_bias is None


def test_too_many_frames_are_refused(model: ARTransformer, text: Tensor) -> None:
    with pytest.raises(ValueError, match="5 frames of codes exceed the window of 4"):
        model(text, TEXT_MASK, torch.zeros(2, 5, 2, 3, dtype=torch.long))


def test_a_row_without_any_text_is_finite(model: ARTransformer, text: Tensor, codes: Tensor) -> None:
    assert model(text, TEXT_MASK & torch.tensor([[True], [False]]), codes).isfinite().all()


def test_state_dict_loads_strictly_into_a_model_on_meta(model: ARTransformer, text: Tensor, codes: Tensor) -> None:
    with torch.device("meta"):
        loaded = ARTransformer(CONFIG).eval()
    loaded.load_state_dict(model.state_dict(), strict=True, assign=True)
    assert torch.equal(loaded(text, TEXT_MASK, codes), model(text, TEXT_MASK, codes))


def test_dropout_acts_in_training_only(text: Tensor, codes: Tensor) -> None:
    model = ARTransformer(dataclasses.replace(CONFIG, dropout=0.5))
    assert not torch.equal(model(text, TEXT_MASK, codes), model(text, TEXT_MASK, codes))
    model.eval()
    assert torch.equal(model(text, TEXT_MASK, codes), model(text, TEXT_MASK, codes))


def test_bfloat16(model: ARTransformer, text: Tensor, codes: Tensor) -> None:
    model.bfloat16()
    logits = model(text, TEXT_MASK, codes)
    cache = model.prefill_text(text, TEXT_MASK, 4)
    assert logits.dtype == torch.bfloat16
    assert model.step(torch.tensor([[1], [1]]), _started(model, cache)).dtype == torch.bfloat16


def _started(model: ARTransformer, cache):
    model.prefill(torch.empty(0, 2, 3, dtype=torch.long), cache)
    return cache


@pytest.mark.parametrize(
    ("config", "least", "most"),
    [
        (DIORAMA.ar, 6e6, 15e6),
        (
            ARConfig(
                text_width=4096,
                max_text_tokens=300,
                codebook_size=2048,
                code_height=8,
                code_width=8,
                window_frames=20,
                previous_frame_input=True,
                text_mean_input=True,
                prompt_end_input=True,
                anchor_frame=True,
                width=1024,
                num_layers=12,
                num_heads=16,
                ffn_width=4096,
                dropout=0.1,
            ),
            160e6,
            195e6,
        ),
    ],
    ids=["diorama", "paper"],
)
def test_number_of_parameters(config: ARConfig, least: float, most: float) -> None:
    with torch.device("meta"):
        model = ARTransformer(config)
    assert least < sum(parameter.numel() for parameter in model.parameters()) < most
