import math
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from arlon_cli.config import ARConfig, TextEncoderConfig
from arlon_cli.models.ar_transformer import ARTransformer
from arlon_cli.models.text_encoder import TextEncoder, build_tokenizer
from arlon_cli.sampling.autoregressive import Span, draft
from arlon_cli.training.ar import (
    ARTrainingConfig,
    adopt_codes,
    code_loss,
    corrupt,
    corruption,
    guidance_loss,
    loss,
    with_null,
)

TEXT = TextEncoderConfig(vocab_size=24, width=16, num_layers=1, num_heads=2, ffn_width=24, max_tokens=6)
AR = ARConfig(
    text_width=16,
    max_text_tokens=6,
    codebook_size=16,
    code_height=2,
    code_width=2,
    window_frames=3,
    previous_frame_input=True,
    text_mean_input=True,
    prompt_end_input=True,
    anchor_frame=True,
    width=32,
    num_layers=2,
    num_heads=2,
    ffn_width=64,
    dropout=0.0,
)
PROMPTS = ["a calm volcano", "a stormy sea"]
EXACT = ARTrainingConfig(text_dropout=0.0, code_corruption=0.0, start_corruption=0.0)


@pytest.fixture
def models() -> tuple[TextEncoder, ARTransformer]:
    torch.manual_seed(0)
    return TextEncoder(TEXT, build_tokenizer(PROMPTS, TEXT)), ARTransformer(AR)


@pytest.fixture
def codes() -> Tensor:
    return torch.randint(16, (2, 3, 2, 2), generator=torch.Generator().manual_seed(1))


def test_greedy_draft_gives_back_what_was_overfitted(models: tuple[TextEncoder, ARTransformer], codes: Tensor) -> None:
    optimizer = torch.optim.AdamW(nn.ModuleList(models).parameters(), lr=3e-3)
    for _ in range(80):
        value, metrics = loss(*models, PROMPTS, codes, EXACT)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    assert metrics["code_accuracy"] == 1
    text, text_mask = models[0].encode(PROMPTS)
    for prompt in range(2):
        span = Span(text[prompt].detach(), text_mask[prompt], 3)
        settings = {"temperature": 0.0, "top_k": 1, "guidance_scale": 1.0}
        drafted = torch.stack(list(draft(models[1], [span], seed=0, **settings)))
        assert torch.equal(drafted, codes[prompt])


def test_untrained_loss_is_that_of_a_uniform_guess(models: tuple[TextEncoder, ARTransformer], codes: Tensor) -> None:
    value, metrics = loss(*models, PROMPTS, codes, EXACT)
    assert value.item() == pytest.approx(math.log(18), abs=0.2)
    assert metrics["code_loss"].item() == pytest.approx(math.log(18), abs=0.2)
    assert set(metrics) == {"loss", "code_loss", "code_accuracy"}
    assert not any(metric.requires_grad for metric in metrics.values())


def test_gradients_reach_both_models(models: tuple[TextEncoder, ARTransformer], codes: Tensor) -> None:
    loss(*models, PROMPTS, codes, EXACT)[0].backward()
    for name, parameter in nn.ModuleList(models).named_parameters():
        assert parameter.grad is not None, name
        assert name.endswith("position") or parameter.grad.abs().sum() > 0, name


def test_dropped_text_is_the_null_prompt(models: tuple[TextEncoder, ARTransformer], codes: Tensor) -> None:
    dropped, _ = loss(*models, PROMPTS, codes, replace(EXACT, text_dropout=1.0))
    null, _ = loss(*models, ["", ""], codes, EXACT)
    assert dropped.item() == null.item()
    assert dropped.item() != loss(*models, PROMPTS, codes, EXACT)[0].item()


def test_corruption_changes_the_context_and_not_the_targets(
    models: tuple[TextEncoder, ARTransformer], codes: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(
        models[1], "targets", lambda codes: seen.append(codes) or ARTransformer.targets(models[1], codes)
    )
    torch.manual_seed(3)
    value, _ = loss(*models, PROMPTS, codes, replace(EXACT, code_corruption=1.0, start_corruption=1.0))
    assert torch.equal(seen[0], codes)
    assert value.item() != loss(*models, PROMPTS, codes, EXACT)[0].item()


def test_corruption_replaces_about_its_share_of_each_window() -> None:
    torch.manual_seed(0)
    codes = torch.zeros(3, 10, 20, 20, dtype=torch.long)
    corrupted = corrupt(codes, torch.tensor([0.0, 0.05, 0.5]).view(3, 1, 1, 1), 1000)
    changed = (corrupted != codes).float().mean(dim=(1, 2, 3))
    torch.testing.assert_close(changed, torch.tensor([0.0, 0.05, 0.5]), atol=0.01, rtol=0)
    assert corrupted.max() < 1000
    assert codes.max() == 0


def test_starts_have_shares_of_their_own_and_longer_windows_one() -> None:
    torch.manual_seed(0)
    config = replace(EXACT, code_corruption=0.05, start_corruption=0.8)
    starts = corruption(torch.zeros(4000, 2, 1, 1, dtype=torch.long), config).flatten()
    assert 0 <= starts.min() < 0.001
    assert 0.79 < starts.max() < 0.8
    assert starts.mean().item() == pytest.approx(0.8 / 3, abs=0.01)
    longer = corruption(torch.zeros(4, 8, 1, 1, dtype=torch.long), config)
    assert torch.equal(longer, torch.full((4, 1, 1, 1), 0.05))


def test_the_global_seed_decides(models: tuple[TextEncoder, ARTransformer], codes: Tensor) -> None:
    config = replace(EXACT, text_dropout=0.5, code_corruption=0.3, start_corruption=0.3)
    values = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        values.append(loss(*models, PROMPTS, codes, config)[0].item())
    assert values[0] == values[1] != values[2]


def test_frames_that_are_given_do_not_count(models: tuple[TextEncoder, ARTransformer], codes: Tensor) -> None:
    _, model = models
    text, text_mask = models[0].encode(PROMPTS)
    with torch.no_grad():
        logits, targets = model(text, text_mask, codes), model.targets(codes)
        given, _ = code_loss(model, text, text_mask, codes, EXACT, torch.tensor([0, 1]))
        none, _ = code_loss(model, text, text_mask, codes, EXACT, torch.tensor([0, 0]))
        whole, _ = code_loss(model, text, text_mask, codes, EXACT)
    first = AR.code_height * AR.code_width + 1  # the tokens of a frame
    counted = torch.cat([logits[0], logits[1, first:]]), torch.cat([targets[0], targets[1, first:]])
    assert given.item() == pytest.approx(F.cross_entropy(*counted).item())
    assert none.item() == pytest.approx(whole.item())
    assert given.item() != pytest.approx(whole.item(), abs=1e-6)


def test_frames_of_another_prompt_are_marked_to_student_and_teacher(
    models: tuple[TextEncoder, ARTransformer], codes: Tensor
) -> None:
    text_encoder, model = models
    text, text_mask = text_encoder.encode(with_null(PROMPTS))
    ended = torch.tensor([0, 1])
    with torch.no_grad():
        logits = model(text[:2], text_mask[:2], codes, ended)
        value, _ = code_loss(model, text[:2], text_mask[:2], codes, EXACT, ended=ended)
        assert value.item() == pytest.approx(
            F.cross_entropy(logits.flatten(0, 1), model.targets(codes).flatten()).item()
        )
        assert value.item() != pytest.approx(
            code_loss(model, text[:2], text_mask[:2], codes, EXACT)[0].item(), abs=1e-6
        )
        teacher = deepcopy(model)
        same, _ = guidance_loss(teacher, model, text, text_mask, codes, 1.0, EXACT, ended)
    assert abs(same.item()) < 1e-6


def test_without_guidance_a_copy_has_nothing_to_learn(models: tuple[TextEncoder, ARTransformer], codes: Tensor) -> None:
    text_encoder, teacher = models
    text = text_encoder.encode(with_null(PROMPTS))
    value, metrics = guidance_loss(teacher, deepcopy(teacher), *text, codes, 1.0, EXACT)
    assert abs(value.item()) < 1e-6
    assert metrics["agreement"] == 1
    value, _ = guidance_loss(teacher, deepcopy(teacher), *text, codes, 3.0, EXACT)
    assert value > 1e-5


def test_a_student_alone_learns_to_draft_as_its_guided_teacher(
    models: tuple[TextEncoder, ARTransformer], codes: Tensor
) -> None:
    text_encoder, teacher = models
    for block in teacher.blocks:  # so that the text says more than a new network's
        torch.nn.init.normal_(block.proj.weight, std=0.3)
    student = deepcopy(teacher)
    with torch.no_grad():
        both = text_encoder.encode(with_null(PROMPTS))
    optimizer = torch.optim.AdamW(student.parameters(), lr=3e-3, weight_decay=0.0)
    found = []
    for _ in range(60):
        value, _ = guidance_loss(teacher, student, *both, codes, 3.0, EXACT)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        found.append(value.item())
    assert found[-1] < 0.1 * found[0]
    assert all(parameter.grad is None for parameter in teacher.parameters())
    (text, null_text), (text_mask, null_mask) = (part.chunk(2) for part in both)
    with torch.no_grad():
        given, own = teacher(text, text_mask, codes), student(text, text_mask, codes)
        free = teacher(null_text, null_mask, codes)
    guided, own, given = ((free + 3 * (given - free))[..., :16], own[..., :16], given[..., :16])
    wanted = guided.softmax(-1)
    assert (own.softmax(-1) - wanted).abs().mean() < 0.3 * (given.softmax(-1) - wanted).abs().mean()


@torch.no_grad()
def test_codes_that_only_got_other_names_mean_what_they_meant(
    models: tuple[TextEncoder, ARTransformer], codes: Tensor
) -> None:
    models[1].head.bias.normal_()
    renamed = deepcopy(models[1])
    names, every = torch.randperm(16), torch.arange(16).repeat(3)
    adopt_codes(renamed, every, names[every])
    before = loss(*models, PROMPTS, codes, EXACT)[0]
    assert loss(models[0], renamed, PROMPTS, names[codes], EXACT)[0].item() == pytest.approx(before.item(), rel=1e-5)
    assert not torch.equal(renamed.head.weight, models[1].head.weight)


@torch.no_grad()
def test_a_code_that_stands_for_several_is_their_mean(models: tuple[TextEncoder, ARTransformer]) -> None:
    old, model = models[1].code_embedding.weight.clone(), models[1]
    adopt_codes(model, torch.tensor([1, 1, 1, 2, 5]), torch.tensor([7, 7, 7, 7, 8]))
    torch.testing.assert_close(model.code_embedding.weight[7], 0.75 * old[1] + 0.25 * old[2])
    torch.testing.assert_close(model.code_embedding.weight[8], old[5])
    torch.testing.assert_close(model.code_embedding.weight[0], 0.6 * old[1] + 0.2 * old[2] + 0.2 * old[5])
    torch.testing.assert_close(model.code_embedding.weight[16:], old[16:])
