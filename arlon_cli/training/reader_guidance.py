"""Guidance by a reader of codes, learnt by the AR Transformer: drafts that show what their prompts say.

An addition of ours, after Yang and Klein (2021), who steer a language model while it writes, by what a discriminator
says of each next word. Here the AR Transformer is taught to draft that way by itself, from drafts of its own.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from arlon_cli.dioramas import Scene, caption, mentioned, sample_scene
from arlon_cli.models.ar_transformer import ARTransformer
from arlon_cli.models.text_encoder import TextEncoder
from arlon_cli.training.ar import code_logits
from arlon_cli.training.classifier import VISIBLE
from arlon_cli.training.code_reader import CodeReader, places_of
from arlon_cli.training.data import SCENE_FRAMES, attribute_values

GUIDANCE = 6.0
"""How much a reader's log-probabilities count beside the logits of codes"""

_TOP_K = 100  # codes that may come next
_CHANGED_FRAMES = 4  # code frames behind a change of prompt, in which it should arrive


@dataclass(frozen=True)
class Drafts:
    """Codes (B, T, h, w) drawn for text (B, L, C) under text_mask (B, L), the first `num_given` frames for another.

    `wanted` (B, values) is 1 for what the prompts mention, of what a `CodeReader` reads.
    """

    text: Tensor
    text_mask: Tensor
    codes: Tensor
    num_given: int
    wanted: Tensor


@torch.no_grad()
def own_drafts(model: ARTransformer, text_encoder: TextEncoder, seeds: Iterable[int], *, changing: bool) -> Drafts:
    """Drafts for captions of the scenes of these seeds: first frames, or what follows such a frame and a change.

    Random numbers: torch's global generator.
    """
    scenes = [sample_scene(seed, num_frames=SCENE_FRAMES, changing=changing) for seed in seeds]
    prompts = [caption(scene, 0, scene.seed) for scene in scenes]
    text, text_mask = text_encoder.encode(prompts)
    codes = draw(model, text, text_mask, 1)
    if changing:
        prompts = [caption(scene, len(scene.spans) - 1, scene.seed) for scene in scenes]
        text, text_mask = text_encoder.encode(prompts)
        codes = draw(model, text, text_mask, min(1 + _CHANGED_FRAMES, model.config.window_frames), given=codes)
    told = [_told(prompt, scene, -1 if changing else 0) for prompt, scene in zip(prompts, scenes, strict=True)]
    return Drafts(text, text_mask, codes, int(changing), torch.stack(told).to(codes.device))


def _told(prompt: str, scene: Scene, index: int) -> Tensor:
    """1 where a reader's log-probability is of what a prompt mentions of its span of a scene, 0 elsewhere."""
    span = scene.spans[index]
    values = places_of(torch.tensor(attribute_values(scene, span.start, VISIBLE)))
    said = mentioned(prompt, span.attributes)
    told = torch.zeros(sum(map(len, VISIBLE.values())))
    told[[int(value) for name, value in zip(VISIBLE, values, strict=True) if name in said]] = 1.0
    return told


def draw(model: ARTransformer, text: Tensor, text_mask: Tensor, num_frames: int, given: Tensor | None = None) -> Tensor:
    """Codes (B, num_frames, h, w) for text (B, L, C), by torch's global random numbers.

    They go on from the frames `given` (B, t, h, w), t < num_frames.
    """
    config, dtype = model.config, model.start.dtype
    cache = model.prefill_text(text.to(dtype), text_mask, num_frames)
    empty = torch.empty(0, config.code_height, config.code_width, dtype=torch.long, device=text.device)
    logits = model.prefill(empty, cache)
    frames: list[Tensor] = []
    if given is not None:
        frames = list(given.flatten(2).unbind(1))
        logits = model.step(F.pad(given.flatten(2), (0, 1), value=model.frame_token).flatten(1), cache)[:, -1]
    while True:
        codes = [_draw(logits, config.codebook_size)]
        while len(codes) < model.codes_per_frame:
            codes.append(_draw(model.step(codes[-1], cache)[:, 0], config.codebook_size))
        frames.append(torch.cat(codes, dim=1))
        if len(frames) == num_frames:
            return torch.stack(frames, dim=1).unflatten(2, (config.code_height, config.code_width))
        logits = model.step(F.pad(codes[-1], (0, 1), value=model.frame_token), cache)[:, -1]


def _draw(logits: Tensor, codebook_size: int) -> Tensor:
    """A code (B, 1) for logits (B, vocabulary)."""
    values, likely = logits[:, :codebook_size].float().topk(min(_TOP_K, codebook_size))
    return likely.gather(1, torch.multinomial(values.softmax(-1), 1))


def reader_guidance_loss(
    reference: ARTransformer, model: ARTransformer, reader: CodeReader, drafts: Drafts
) -> tuple[Tensor, dict[str, Tensor]]:
    """How far a model is from its reference with the reader's guidance: KL divergence per code in nats.

    The logits of the reference's likeliest codes each get `GUIDANCE` times the log-probability that the frame will show
    what is wanted. Metrics: `divergence`; `shown`, the mean probability of what is wanted when all codes are read.
    """
    codes = drafts.codes[:, drafts.num_given :].flatten(2)
    with torch.no_grad():
        values, likely = _logits(reference, drafts).topk(min(_TOP_K, reference.config.codebook_size))
        wanted = drafts.wanted.repeat_interleave(codes.shape[1], dim=0)
        read = reader(codes.flatten(0, 1), torch.cat([likely, codes.unsqueeze(3)], dim=3).flatten(0, 1))
        said = torch.einsum("bnkv,bv->bnk", read, wanted)[..., :-1].view_as(values)
        guided = (values + GUIDANCE * said).softmax(-1)
        shown = (read[:, -1, -1].exp() * wanted).sum() / wanted.sum()
    logits = _logits(model, drafts).log_softmax(-1).gather(3, likely)
    divergence = F.kl_div(logits.flatten(0, 2), guided.flatten(0, 2), reduction="batchmean")
    return divergence, {"divergence": divergence.detach(), "shown": shown}


def _logits(model: ARTransformer, drafts: Drafts) -> Tensor:
    """Logits (B, t, h·w, codebook size) of the frames that are not given."""
    logits = code_logits(model, drafts.text, drafts.text_mask, drafts.codes)[:, :-1]
    return logits.unflatten(1, (drafts.codes.shape[1], -1))[:, drafts.num_given :, :-1]
