from pathlib import Path

import torch

from arlon_cli.config import ModelConfig
from arlon_cli.models.latent_vqvae import LatentVQVAE
from arlon_cli.pipeline.condition import decode_condition, draft_spans
from arlon_cli.pipeline.segments import CodeSpan, plan_segments
from arlon_cli.storage.checkpoint import Checkpoint


def codes(num_frames: int) -> torch.Tensor:
    return torch.randint(16, (num_frames, 2, 2), generator=torch.Generator().manual_seed(0))


def test_conditions_are_of_the_segments_length_and_of_its_past(tiny_checkpoint: Path, tiny_config: ModelConfig) -> None:
    vqvae = Checkpoint(tiny_checkpoint).load("latent_vqvae", "cpu", torch.float32)
    assert isinstance(vqvae, LatentVQVAE)
    for segment in plan_segments(33, tiny_config.segments):
        condition = decode_condition(vqvae, codes(40), segment, torch.device("cpu"))
        assert condition.shape == (1, 4, segment.end - segment.start, 4, 4)
        short = decode_condition(vqvae, codes(40)[: -(-segment.end // 2)], segment, torch.device("cpu"))
        assert torch.equal(condition, short)


def test_early_conditions_are_those_of_the_whole(tiny_checkpoint: Path, tiny_config: ModelConfig) -> None:
    vqvae = Checkpoint(tiny_checkpoint).load("latent_vqvae", "cpu", torch.float32)
    assert isinstance(vqvae, LatentVQVAE)
    whole = vqvae.decode(codes(5)[None])
    for segment in plan_segments(10, tiny_config.segments)[:2]:
        condition = decode_condition(vqvae, codes(5), segment, torch.device("cpu"))
        torch.testing.assert_close(condition, whole[:, :, segment.start : segment.end])


def test_drafting_in_parts_gives_the_same(tiny_checkpoint: Path, tiny_config: ModelConfig) -> None:
    model = Checkpoint(tiny_checkpoint).load("ar", "cpu", torch.float32)
    generator = torch.Generator().manual_seed(1)
    texts = {
        name: (torch.randn(12, 16, generator=generator), torch.ones(12, dtype=torch.bool)) for name in ("", "a", "b")
    }

    def run(*parts: list[CodeSpan]) -> torch.Tensor:
        past = torch.empty(0, 2, 2, dtype=torch.long)
        for spans in parts:
            past = torch.cat([past, draft_spans(model, texts, spans, past, 3, tiny_config.sampling)])  # type: ignore[arg-type]
        return past

    whole = run([CodeSpan("a", 0, 0, 6), CodeSpan("b", 6, 6, 7)])
    parts = run([CodeSpan("a", 0, 0, 4)], [CodeSpan("a", 0, 4, 2), CodeSpan("b", 6, 6, 1)], [CodeSpan("b", 6, 7, 6)])
    assert torch.equal(whole, parts)
