import dataclasses
import itertools
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from arlon_cli.config import ARConfig
from arlon_cli.models.ar_transformer import ARTransformer, KVCache
from arlon_cli.sampling import autoregressive
from arlon_cli.sampling.autoregressive import Ranking, Span, draft, frames_seen

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
SETTINGS = {"seed": 5, "temperature": 1.0, "top_k": 8, "guidance_scale": 2.0}
GREEDY = {"temperature": 0.0}


@pytest.fixture
def model() -> ARTransformer:
    torch.manual_seed(0)
    model = ARTransformer(CONFIG).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


@pytest.fixture
def texts() -> Tensor:
    return torch.randn(3, 6, 12, generator=torch.Generator().manual_seed(2))


def span(text: Tensor, num_frames: int, num_tokens: int = 4) -> Span:
    return Span(text, torch.arange(6) < num_tokens, num_frames)


def null(texts: Tensor) -> tuple[Tensor, Tensor]:
    return texts[2], torch.arange(6) < 1


def collect(model: ARTransformer, *spans: Span, **settings: object) -> Tensor:
    return torch.stack(list(draft(model, spans, **{**SETTINGS, **settings})))  # type: ignore[arg-type]


def test_frames_are_codes(model: ARTransformer, texts: Tensor) -> None:
    with torch.no_grad():
        model.head.weight[16:] *= 100  # marks that would win are never drawn
    codes = collect(model, span(texts[0], 9), null=null(texts), top_k=99)
    assert codes.shape == (9, 2, 3)
    assert codes.dtype == torch.long
    assert codes.min() >= 0
    assert codes.max() < 16
    torch.nn.Embedding(16, 2)(codes).sum().backward()  # usable outside of inference


@pytest.mark.parametrize("guidance_scale", [1.0, 2.0])
def test_longer_draft_starts_with_the_shorter(model: ARTransformer, texts: Tensor, guidance_scale: float) -> None:
    settings = {"null": null(texts), "guidance_scale": guidance_scale}
    long = collect(model, span(texts[0], 11), span(texts[1], 6, 3), **settings)
    for num_frames in (1, 3, 4, 5, 8, 11):
        assert torch.equal(collect(model, span(texts[0], num_frames), **settings), long[:num_frames])
    assert torch.equal(collect(model, span(texts[0], 11), span(texts[1], 2, 3), **settings), long[:13])


@pytest.mark.parametrize("ranked_frames", [0, 4])
@pytest.mark.parametrize("temperature", [0.0, 0.2, 1.0])
def test_guessing_changes_no_code(
    model: ARTransformer, texts: Tensor, temperature: float, ranked_frames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.double()
    ranking = Ranking(even_codes, ranked_frames, 5, 5, temperature)
    settings = {"null": null(texts), "temperature": temperature, "ranking": ranking}
    guessed = collect(model, span(texts[0].double(), 9), span(texts[1].double(), 3), **settings)
    monkeypatch.setattr(autoregressive, "_PASS", 1)
    monkeypatch.setattr(autoregressive, "_PASS_OF_EACH", 1)
    assert torch.equal(collect(model, span(texts[0].double(), 9), span(texts[1].double(), 3), **settings), guessed)
    stay = (guessed[1:] == guessed[:-1]).float().mean()
    assert 0 < stay < 1  # so some guesses were right and some wrong


def test_same_seed_same_codes_other_seed_others(model: ARTransformer, texts: Tensor) -> None:
    first = collect(model, span(texts[0], 4), null=null(texts))
    torch.rand(3)  # the global generator has no part in it
    assert torch.equal(collect(model, span(texts[0], 4), null=null(texts)), first)
    other = collect(model, span(texts[0], 4), null=null(texts), seed=6)
    assert (other != first).flatten(1).any(1).all()


def test_text_and_guidance_matter(model: ARTransformer, texts: Tensor) -> None:
    first = collect(model, span(texts[0], 4), null=null(texts))
    assert not torch.equal(collect(model, span(texts[1], 4), null=null(texts)), first)
    assert not torch.equal(collect(model, span(texts[0], 4), null=null(texts), guidance_scale=6.0), first)


def test_guidance_of_one_is_no_guidance(model: ARTransformer, texts: Tensor) -> None:
    alone = collect(model, span(texts[0], 6), guidance_scale=1.0)
    assert torch.equal(collect(model, span(texts[0], 6), guidance_scale=1.0, null=null(texts)), alone)
    nearly = collect(model, span(texts[0], 6), guidance_scale=1.0 + 1e-6, null=null(texts))
    assert torch.equal(nearly, alone)


def test_greedy_draft_follows_the_guided_logits_of_the_whole_forward(model: ARTransformer, texts: Tensor) -> None:
    null_text, null_mask = null(texts)
    codes = collect(model, span(texts[0], 4), **GREEDY, null=(null_text, null_mask))
    rows = torch.stack([torch.arange(6) < 4, null_mask])
    with torch.no_grad():
        prompted, unprompted = model(torch.stack([texts[0], null_text]), rows, codes.expand(2, -1, -1, -1))
    guided = (unprompted + 2.0 * (prompted - unprompted))[:-1, :16].argmax(-1)
    assert torch.equal(guided.view(4, 7)[:, :6].reshape(4, 2, 3), codes)
    assert torch.equal(collect(model, span(texts[0], 4), top_k=1, null=(null_text, null_mask)), codes)


def test_padding_of_the_text_does_not_matter(model: ARTransformer, texts: Tensor) -> None:
    short = Span(texts[0, :4], torch.ones(4, dtype=torch.bool), 6)
    assert torch.equal(collect(model, short, guidance_scale=1.0), collect(model, span(texts[0], 6), guidance_scale=1.0))


@pytest.mark.parametrize("num_frames", [1, 3, 4, 6, 7])
def test_going_on_from_a_prefix_is_the_longer_draft(model: ARTransformer, texts: Tensor, num_frames: int) -> None:
    whole = collect(model, span(texts[0], 10), null=null(texts))
    rest = collect(
        model,
        span(texts[0], 10 - num_frames),
        null=null(texts),
        prefix=whole[:num_frames],
        start_frame=num_frames,
    )
    assert torch.equal(rest, whole[num_frames:])


def test_a_span_starts_from_the_last_frame_before_it(model: ARTransformer, texts: Tensor) -> None:
    codes = collect(model, span(texts[0], 5), span(texts[1], 4, 3), null=null(texts))
    second = collect(model, span(texts[1], 4, 3), null=null(texts), prefix=codes[4:5], start_frame=5)
    assert torch.equal(codes[5:], second)
    assert not torch.equal(collect(model, span(texts[1], 4, 3), null=null(texts), start_frame=5), second)


def test_a_span_without_frames_changes_nothing(model: ARTransformer, texts: Tensor) -> None:
    codes = collect(model, span(texts[0], 3), span(texts[2], 0), span(texts[1], 3), null=null(texts))
    assert torch.equal(collect(model, span(texts[0], 3), span(texts[1], 3), null=null(texts)), codes)


def test_frames_come_one_at_a_time_from_endless_spans(model: ARTransformer, texts: Tensor) -> None:
    frames = draft(model, (span(text, 2) for text in itertools.cycle(texts)), null=null(texts), **SETTINGS)
    assert len(list(itertools.islice(frames, 7))) == 7


def test_small_temperature_and_top_k_narrow_the_choice(model: ARTransformer, texts: Tensor) -> None:
    greedy = collect(model, span(texts[0], 3), **GREEDY, null=null(texts))
    assert torch.equal(collect(model, span(texts[0], 3), temperature=1e-4, null=null(texts)), greedy)
    assert not torch.equal(collect(model, span(texts[0], 3), null=null(texts)), greedy)


def test_draws_follow_the_softmax(model: ARTransformer, texts: Tensor) -> None:
    mask = torch.arange(6) < 4
    first = torch.stack(
        [
            next(draft(model, [span(texts[0], 1)], **{**SETTINGS, "seed": seed, "guidance_scale": 1.0, "top_k": 16}))
            for seed in range(600)
        ]
    )[:, 0, 0]
    with torch.no_grad():
        empty = torch.empty(1, 0, 2, 3, dtype=torch.long)
        expected = model(texts[:1], mask[None], empty)[0, 0, :16].softmax(-1)
    measured = first.bincount(minlength=16) / 600
    assert (measured - expected).abs().max() < 0.07


def test_like_distributions_give_like_codes() -> None:
    draws = torch.Generator().manual_seed(3)
    logits = torch.randn(6000, 16, generator=draws)
    moved = logits + 0.3 * torch.randn(6000, 16, generator=draws)
    noise = autoregressive._gumbel(0, 0, (6000, 16))
    sampler = autoregressive._Sampler((), (), codebook_size=16, temperature=1.0, top_k=16)
    differ = (sampler(logits[None], noise) != sampler(moved[None], noise)).double().mean()
    apart = (logits.softmax(-1) - moved.softmax(-1)).abs().sum(-1) / 2  # in total variation
    assert 0.05 < differ < (2 * apart / (1 + apart)).mean()  # Daliri et al., 2024


def even_codes(some: Span, frames: Tensor) -> Tensor:
    """How many codes are even."""
    return (frames % 2 == 0).flatten(1).sum(1).float()


@pytest.mark.parametrize("guidance_scale", [1.0, 2.0])
def test_ranked_frames_are_the_best_of_several(model: ARTransformer, texts: Tensor, guidance_scale: float) -> None:
    def mean_of_first(candidates: int) -> float:
        ranking = Ranking(even_codes, 2, candidates, candidates, 1.0)
        settings = {"null": null(texts), "guidance_scale": guidance_scale, "ranking": ranking}
        drafts = [collect(model, span(texts[0], 2), **{**settings, "seed": seed}) for seed in range(30)]
        return even_codes(span(texts[0], 2), torch.cat(drafts)).mean().item()

    alone, best = mean_of_first(1), mean_of_first(12)
    assert best > alone + 1


def test_candidates_are_drawn_as_single_drafts_are(model: ARTransformer, texts: Tensor) -> None:
    seen: list[Tensor] = []

    def note(some: Span, frames: Tensor) -> Tensor:
        seen.append(frames)
        return torch.arange(len(frames)).float()

    whole = collect(model, span(texts[0], 3), null=null(texts), ranking=Ranking(note, 3, 4, 4, 0.0))
    assert torch.equal(whole, collect(model, span(texts[0], 3), null=null(texts), **GREEDY))
    seen.clear()
    drafted = collect(model, span(texts[0], 3), null=null(texts), ranking=Ranking(note, 2, 4, 4, 1.0))
    assert [len(frames) for frames in seen] == [4, 4]  # and the third frame is not ranked
    assert torch.equal(drafted[:2], torch.stack([frames[-1] for frames in seen]))
    assert all(len(frames.unique(dim=0)) > 1 for frames in seen)


def test_a_scenes_first_frame_is_chosen_of_more(model: ARTransformer, texts: Tensor) -> None:
    counts: list[int] = []

    def note(some: Span, frames: Tensor) -> Tensor:
        counts.append(len(frames))
        return torch.zeros(len(frames))

    ranking = Ranking(note, 3, 7, 4, 1.0)
    first = collect(model, span(texts[0], 4), span(texts[1], 2), guidance_scale=1.0, ranking=ranking)
    assert counts == [7, 4, 4, 4, 4]  # a later prompt goes on from the frame before it
    counts.clear()
    collect(model, span(texts[0], 2), guidance_scale=1.0, ranking=ranking, prefix=first[:1], start_frame=1)
    assert counts == [4, 4]


def test_draws_of_candidates_follow_the_softmax(model: ARTransformer, texts: Tensor) -> None:
    seen: list[Tensor] = []

    def note(some: Span, frames: Tensor) -> Tensor:
        seen.append(frames)
        return torch.zeros(len(frames))

    collect(model, span(texts[0], 1), guidance_scale=1.0, top_k=16, ranking=Ranking(note, 1, 900, 900, 1.0))
    with torch.no_grad():
        empty = torch.empty(1, 0, 2, 3, dtype=torch.long)
        expected = model(texts[:1], (torch.arange(6) < 4)[None], empty)[0, 0, :16].softmax(-1)
    measured = seen[0][:, 0, 0].bincount(minlength=16) / 900
    assert (measured - expected).abs().max() < 0.06


def test_a_ranked_draft_goes_on_from_any_prefix(model: ARTransformer, texts: Tensor) -> None:
    ranking = Ranking(even_codes, 3, 4, 4, 1.0)
    whole = collect(model, span(texts[0], 6), span(texts[1], 5, 3), null=null(texts), ranking=ranking)
    assert torch.equal(collect(model, span(texts[0], 4), null=null(texts), ranking=ranking), whole[:4])
    for num_frames in (1, 2, 3, 5):
        rest = [span(texts[0], 6 - num_frames), span(texts[1], 5, 3)]
        settings = {"prefix": whole[:num_frames], "start_frame": num_frames}
        assert torch.equal(collect(model, *rest, null=null(texts), ranking=ranking, **settings), whole[num_frames:])


@pytest.mark.parametrize("guidance_scale", [1.0, 2.0])
def test_ranked_frames_behind_another_prompt_are_guided_away_from_it(
    model: ARTransformer, texts: Tensor, guidance_scale: float
) -> None:
    null_text, null_mask = null(texts)
    first = collect(model, span(texts[0], 1), null=(null_text, null_mask))
    later = dataclasses.replace(span(texts[1], 3, 3), before=(texts[0], torch.arange(6) < 4))
    ranking = Ranking(even_codes, 3, 2, 2, 0.0, change_frames=2, change_guidance=3.0)
    settings = {**GREEDY, "guidance_scale": guidance_scale, "null": (null_text, null_mask)}
    codes = collect(model, later, prefix=first, start_frame=1, ranking=ranking, **settings)

    rows = torch.stack([torch.arange(6) < 3, null_mask, torch.arange(6) < 4])
    with torch.no_grad():
        seen = torch.cat([first, codes]).expand(3, -1, -1, -1)
        ended = torch.ones(3, dtype=torch.long)
        logits = model(torch.stack([texts[1], null_text, texts[0]]), rows, seen, ended)[:, 7:-1, :16].view(3, 3, 7, 16)
    prompted, unprompted, before = logits[:, :, :6]
    alone = unprompted + guidance_scale * (prompted - unprompted)
    away = alone + 2.0 * (prompted - before)
    assert torch.equal(away[:2].argmax(-1).view(2, 2, 3), codes[:2])
    assert torch.equal(alone[2].argmax(-1).view(2, 3), codes[2])
    assert not torch.equal(alone[:2].argmax(-1), away[:2].argmax(-1))


def test_the_frame_of_another_prompt_is_marked_as_long_as_it_is_seen(
    model: ARTransformer, texts: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    marked: list[tuple[int, int]] = []
    prefill = ARTransformer.prefill

    def noting(self: ARTransformer, codes: Tensor, cache: KVCache, ended: int = 0) -> Tensor:
        marked.append((len(codes), ended))
        return prefill(self, codes, cache, ended)

    monkeypatch.setattr(ARTransformer, "prefill", noting)
    ranking = Ranking(even_codes, 10, 2, 2, 1.0, change_frames=10)  # so each frame begins anew
    later = dataclasses.replace(span(texts[1], 5), before=(texts[0], torch.arange(6) < 4))
    collect(model, span(texts[0], 5), later, null=null(texts), ranking=ranking)
    assert marked == [(n, 0) for n in (0, 1, 2, 3, 2)] + [(1, 1), (2, 1), (3, 1), (2, 0), (3, 0)]


class _Turning:
    """Stands for a Hold, and asks from the second frame of a scene on for the code that counts its frames."""

    def bias(self, scene: Sequence[Tensor]) -> Tensor | None:
        return 1e4 * F.one_hot(torch.tensor(len(scene)), 16).float() if len(scene) > 1 else None


def test_a_span_is_held_to_its_first_frames_or_behind_another_prompt_to_later_ones(
    model: ARTransformer, texts: Tensor
) -> None:
    settings = {"null": null(texts), "hold": _Turning()}
    alone = collect(model, span(texts[0], 5), **settings)
    assert torch.equal(alone[:2], collect(model, span(texts[0], 2), null=null(texts)))
    assert [set(frame.flatten().tolist()) for frame in alone[2:]] == [{2}, {3}, {4}]
    later = dataclasses.replace(span(texts[1], 6), before=(texts[0], torch.arange(6) < 4))
    behind = collect(model, later, prefix=alone[-1:], **settings)
    assert torch.equal(behind[:3], collect(model, later, prefix=alone[-1:], null=null(texts))[:3])
    assert [set(frame.flatten().tolist()) for frame in behind[3:]] == [{2}, {3}, {4}]


def test_a_full_window_keeps_its_latest_half_behind_the_anchor() -> None:
    assert [frames_seen(num_frames, CONFIG) for num_frames in range(9)] == [
        [],
        [0],
        [0, 1],
        [0, 1, 2],
        [2, 3],
        [2, 3, 4],
        [2, 5],
        [2, 5, 6],
        [2, 7],
    ]
    odd = dataclasses.replace(CONFIG, window_frames=5)
    assert [frames_seen(num_frames, odd) for num_frames in (4, 5, 7, 8)] == [[0, 1, 2, 3], [3, 4], [3, 4, 5, 6], [3, 7]]


def test_without_an_anchor_it_keeps_the_latest_half_alone() -> None:
    plain = dataclasses.replace(CONFIG, anchor_frame=False)
    assert [frames_seen(num_frames, plain) for num_frames in (3, 4, 6, 7, 8)] == [
        [0, 1, 2],
        [2, 3],
        [4, 5],
        [4, 5, 6],
        [6, 7],
    ]


def test_a_window_of_one_frame_sees_none() -> None:
    one = dataclasses.replace(CONFIG, window_frames=1)
    assert all(frames_seen(num_frames, one) == [] for num_frames in range(4))


def test_window_of_one_frame(texts: Tensor) -> None:
    model = ARTransformer(dataclasses.replace(CONFIG, window_frames=1)).eval()
    assert collect(model, span(texts[0], 3), null=null(texts)).shape == (3, 2, 3)


@pytest.mark.parametrize(
    ("setting", "match"),
    [
        ({"temperature": -1.0}, "Temperature -1.0"),
        ({"top_k": 0}, "top_k 0"),
        ({"null": None}, "guidance_scale 2.0"),
    ],
)
def test_settings_out_of_range_are_refused(
    model: ARTransformer, texts: Tensor, setting: dict[str, object], match: str
) -> None:
    with pytest.raises(ValueError, match=match):
        collect(model, span(texts[0], 1), **{"null": null(texts), **setting})
