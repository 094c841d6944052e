from dataclasses import replace
from pathlib import Path

import torch

from arlon_cli.config import ModelConfig
from arlon_cli.pipeline.drafting import draft_spans, ranking_by
from arlon_cli.pipeline.segments import CodeSpan
from arlon_cli.sampling.hold import Hold
from arlon_cli.storage.checkpoint import Checkpoint


def test_drafting_in_parts_gives_the_same(tiny_checkpoint: Path, tiny_config: ModelConfig) -> None:
    model, ranker, vqvae = (
        Checkpoint(tiny_checkpoint).load(part, "cpu", torch.float32) for part in ("ar", "ranker", "latent_vqvae")
    )
    ranking = replace(ranking_by(ranker, vqvae), change_guidance=1e4)  # type: ignore[arg-type]  # untrained, prompts tell little
    hold = Hold(vqvae.codebook, 1e3)  # type: ignore[attr-defined]
    generator = torch.Generator().manual_seed(1)
    texts = {
        name: (torch.randn(12, 16, generator=generator), torch.ones(12, dtype=torch.bool)) for name in ("", "a", "b")
    }

    def run(*parts: list[CodeSpan], hold: Hold = hold) -> torch.Tensor:
        past = torch.empty(0, 2, 2, dtype=torch.long)
        for spans in parts:
            drafted = draft_spans(model, texts, spans, past, 3, tiny_config.sampling, ranking, hold)  # type: ignore[arg-type]
            past = torch.cat([past, drafted])
        return past

    def behind_a(start: int, num_frames: int) -> CodeSpan:
        return CodeSpan("b", 6, start, num_frames, before="a")

    whole = run([CodeSpan("a", 0, 0, 6), behind_a(6, 7)])
    parts = run([CodeSpan("a", 0, 0, 1)], [CodeSpan("a", 0, 1, 5), behind_a(6, 1)], [behind_a(7, 6)])
    assert torch.equal(whole, parts)
    assert not torch.equal(whole, run([CodeSpan("a", 0, 0, 6), CodeSpan("b", 6, 6, 7)]))
    assert not torch.equal(whole, run([CodeSpan("a", 0, 0, 6), behind_a(6, 7)], hold=Hold(hold.vectors, 0.0)))
