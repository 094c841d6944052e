from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from arlon_cli.config import TextEncoderConfig
from arlon_cli.dioramas import mentioned, sample_scene, vocabulary
from arlon_cli.models.ar_transformer import ARTransformer
from arlon_cli.models.text_encoder import TextEncoder, build_tokenizer
from arlon_cli.presets import DIORAMA
from arlon_cli.sampling.autoregressive import Span, draft
from arlon_cli.training.classifier import VISIBLE
from arlon_cli.training.clips import LatentClips
from arlon_cli.training.ranking import (
    CodeReader,
    best_frames,
    draw_frames,
    first_caption,
    read_best_frames,
    read_frames,
    reader_loss,
    write_best_frames,
)

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
SCENES = [sample_scene(seed, num_frames=256) for seed in range(6)]


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


class Judge(nn.Module):
    """Finds all right where the first code is even, the surer the larger it is; and nothing where it is odd."""

    def __init__(self, wanted: list[dict[str, str]], candidates: int) -> None:
        super().__init__()
        self.wanted = [attributes for attributes in wanted for _ in range(candidates)]

    def forward(self, codes: Tensor) -> list[Tensor]:
        first = codes[:, 0, 0]
        sure = 0.1 * torch.where(first % 2 == 0, 1 + first, -1 - first)
        logits = []
        for name, values in VISIBLE.items():
            right = torch.tensor([values.index(attributes[name]) for attributes in self.wanted])
            logits.append(sure[:, None] * nn.functional.one_hot(right, len(values)))
        return logits


@torch.no_grad()
def test_each_row_is_drawn_as_it_would_be_alone(model: ARTransformer, text_encoder: TextEncoder) -> None:
    model.head.weight *= 1e4  # so that the likeliest is drawn
    text, text_mask = text_encoder.encode(["a calm volcano", "a red sailboat in a storm, at night, seen from afar"])
    frames = draw_frames(model, text, text_mask)
    for row in range(2):
        greedy = {"start_temperature": 0.0, "temperature": 0.0, "top_k": 1, "guidance_scale": 1.0}
        (alone,) = draft(model, [Span(text[row], text_mask[row], 1)], seed=0, **greedy)  # type: ignore[arg-type]
        assert torch.equal(frames[row], alone)


@torch.no_grad()
def test_frames_follow_the_model(model: ARTransformer, text_encoder: TextEncoder) -> None:
    text, text_mask = text_encoder.encode(["a calm volcano"])
    torch.manual_seed(0)
    frames = draw_frames(model, text.expand(2000, -1, -1), text_mask.expand(2000, -1))
    first = frames[:, 0, 0].bincount(minlength=32) / 2000
    expected = model(text, text_mask, torch.empty(1, 0, 2, 2, dtype=torch.long))[0, 0, :32].softmax(-1)
    assert (first - expected).abs().max() < 0.04
    assert frames.max() < 32


def test_the_best_are_those_that_are_read_right(model: ARTransformer, text_encoder: TextEncoder) -> None:
    judge = Judge([scene.spans[0].attributes for scene in SCENES], candidates=8)
    torch.manual_seed(0)
    best = best_frames(model, text_encoder, judge, SCENES)  # type: ignore[arg-type]
    torch.manual_seed(0)
    text, text_mask = text_encoder.encode([first_caption(scene) for scene in SCENES])
    drawn = draw_frames(model, text.repeat_interleave(8, 0), text_mask.repeat_interleave(8, 0)).view(6, 8, 2, 2)
    seen = set()
    for scene, candidates in zip(SCENES, drawn, strict=True):
        kept = best["codes"][best["seeds"] == scene.seed]
        firsts = candidates[:, 0, 0].tolist()
        right = sorted((code for code in firsts if code % 2 == 0), reverse=True)[:2] or [min(firsts)]
        assert kept[:, 0, 0].tolist() == right
        assert all(any(torch.equal(frame, candidate) for candidate in candidates) for frame in kept)
        seen.add(len(kept))
    assert 2 in seen


def test_what_is_written_is_read_with_its_captions(
    tmp_path: Path, model: ARTransformer, text_encoder: TextEncoder
) -> None:
    reader = CodeReader(torch.randn(32, 8), 4)
    for _ in range(2):  # the second time, nothing is left to do
        write_best_frames(
            tmp_path, model, text_encoder, reader, first=5, seconds=1e9, most=6, per_file=3, stop=lambda: False
        )
    assert sorted(file.name for file in tmp_path.iterdir()) == ["00000000.safetensors", "00000003.safetensors"]
    prompts, codes = read_best_frames(tmp_path)
    assert codes.shape == (len(prompts), 2, 2)
    expected = [first_caption(sample_scene(seed, num_frames=256)) for seed in range(5, 11)]
    assert list(dict.fromkeys(prompts)) == expected
    for seed, prompt in zip(range(5, 11), expected, strict=True):
        assert "family" in mentioned(prompt, sample_scene(seed, num_frames=256).spans[0].attributes)


def test_frames_are_read_where_one_state_holds() -> None:
    scene = next(s for s in (sample_scene(seed, num_frames=160) for seed in range(99)) if len(s.spans) == 2)
    codes = torch.arange(20).view(1, 20, 1, 1)
    frames, values = read_frames(codes, LatentClips(torch.empty(0), [scene], [0]), 8)
    first, second = scene.spans
    for frame, value in zip(frames.flatten().tolist(), values.tolist(), strict=True):
        span = first if 8 * frame + 8 <= first.end else second
        assert span is first or 8 * frame >= second.settled
        assert value == [VISIBLE[name].index(span.attributes[name]) for name in VISIBLE]
    hidden = set(range(20)) - set(frames.flatten().tolist())
    assert hidden == {f for f in range(20) if 8 * f + 8 > first.end and 8 * f < second.settled}


def test_the_reader_learns_one_batch() -> None:
    torch.manual_seed(0)
    reader = CodeReader(torch.randn(32, 8), 4)
    codes = torch.randint(32, (8, 2, 2))
    values = torch.stack([torch.randint(len(some), (8,)) for some in VISIBLE.values()], dim=1)
    optimizer = torch.optim.AdamW(reader.parameters(), lr=3e-3)
    for _ in range(80):
        value, metrics = reader_loss(reader, codes, values)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    reader.eval()
    assert set(metrics) == set(VISIBLE)
    assert all(
        torch.equal(found.argmax(1), value) for found, value in zip(reader(codes), values.unbind(1), strict=True)
    )
