"""Drafting the codes of a scene, span by span."""

from collections.abc import Mapping, Sequence
from itertools import groupby

import torch
from torch import Tensor

from arlon_cli.config import SamplingConfig
from arlon_cli.models.ar_transformer import ARTransformer
from arlon_cli.models.draft_ranker import DraftRanker
from arlon_cli.models.latent_vqvae import LatentVQVAE
from arlon_cli.pipeline.segments import CodeSpan
from arlon_cli.sampling.autoregressive import Ranking, Span, draft
from arlon_cli.sampling.hold import Hold

Texts = Mapping[str, tuple[Tensor, Tensor]]
"""Features (L, C) and mask (L,) of each prompt, "" the null prompt among them"""


def draft_spans(
    model: ARTransformer,
    texts: Texts,
    spans: Sequence[CodeSpan],
    past: Tensor,
    seed: int,
    config: SamplingConfig,
    ranking: Ranking | None,
    hold: Hold,
) -> Tensor:
    """Draft consecutive spans after the codes `past` (t, h, w) of the scene; returns their codes (n, h, w).

    A shot's codes grow out of the last code frame before it and those of its own (4.5), whatever is drafted at once.
    `seed` is that of spans without one of their own.
    """
    device = model.start.device

    def text_of(prompt: str) -> tuple[Tensor, Tensor]:
        text, mask = texts[prompt]
        return text.to(device), mask.to(device)

    frames: list[Tensor] = []
    for own_seed, group in groupby(spans, key=lambda span: span.seed):
        own_spans = list(group)
        first = own_spans[0]
        drafted = draft(
            model,
            [
                Span(*text_of(span.prompt), span.num_frames, None if span.before is None else text_of(span.before))
                for span in own_spans
            ],
            seed=seed if own_seed is None else own_seed,
            temperature=config.ar_temperature,
            top_k=config.ar_top_k,
            guidance_scale=config.ar_guidance_scale,
            null=text_of(""),
            ranking=ranking,
            hold=hold,
            prefix=torch.cat([past, *frames])[max(0, first.shot_start - 1) : first.start],
            start_frame=first.start,
        )
        frames += [frame.cpu()[None] for frame in drafted]
    return torch.cat(frames)


def ranking_by(ranker: DraftRanker, vqvae: LatentVQVAE) -> Ranking:
    """What ranks the drafts of a pipeline."""

    def scores(span: Span, frames: Tensor) -> Tensor:
        condition = vqvae.decode(frames[:, None])
        scores: Tensor = ranker(span.text[None], span.text_mask[None], condition, first=span.before is None)
        return scores

    config = ranker.config
    return Ranking(
        torch.inference_mode()(scores),
        config.frames,
        config.first_candidates,
        config.candidates,
        config.temperature,
        config.change_frames,
        config.change_guidance,
    )
