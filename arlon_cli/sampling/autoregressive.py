"""Drafting: codes from text, one frame at a time, for any length (2.1, 4.5)."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from arlon_cli.models.ar_transformer import ARTransformer, KVCache

_GUESSES = 3  # codes that a pass takes to stay as they were


@dataclass(frozen=True, eq=False)
class Span:
    """Frames under one prompt: text (L, C), text_mask (L,) bool, `num_frames` code frames."""

    text: Tensor
    text_mask: Tensor
    num_frames: int


@dataclass(frozen=True)
class _Sampler:
    """Draws a code from logits; `guidance_scale` other than 1 wants rows of (prompt, null prompt)."""

    codebook_size: int
    temperature: float
    top_k: int
    guidance_scale: float

    def __call__(self, logits: Tensor, uniform: Tensor) -> Tensor:
        """The code (1,) where the cumulative distribution of logits (1 or 2, vocabulary) passes `uniform` (1,)."""
        logits = logits[:, : self.codebook_size].float()  # ⟨FRAME⟩ and ⟨EOS⟩ are placed, never drawn
        if self.guidance_scale != 1.0:
            logits = torch.lerp(logits[1], logits[0], self.guidance_scale)
        logits = logits.view(-1)
        if self.temperature == 0.0:
            return logits.argmax(keepdim=True)
        values, codes = logits.topk(min(self.top_k, self.codebook_size))
        cumulative = (values / self.temperature).softmax(-1).cumsum(-1)
        return codes[torch.searchsorted(cumulative, uniform).clamp_(max=codes.numel() - 1)]


def draft(
    model: ARTransformer,
    spans: Iterable[Span],
    *,
    seed: int,
    temperature: float,
    top_k: int,
    guidance_scale: float,
    null: tuple[Tensor, Tensor] | None = None,
    prefix: Tensor | None = None,
    start_frame: int = 0,
) -> Iterator[Tensor]:
    """Draft the spans one after the other; yields a code frame (h, w) long at a time.

    Guidance: logits = null + guidance_scale · (prompt - null), with `null` the text (L, C) and mask (L,) of the null
    prompt; a scale of 1 needs none. `temperature` 0 takes the likeliest code.

    The first span goes on from the codes `prefix` (t, h, w), each later one from the last frame before it (4.5). Past
    the model's window the latest half of its frames stays. `start_frame` is the index in the video of the first frame
    drafted: random numbers follow from (seed, index), so a longer draft starts with the shorter one.

    Raises ValueError for a setting out of its range.
    """
    if temperature < 0 or top_k < 1:
        raise ValueError(f"temperature {temperature} must not be negative and top_k {top_k} must be at least 1.")
    if guidance_scale != 1.0 and null is None:
        raise ValueError(f"guidance_scale {guidance_scale} needs the text of the null prompt.")
    config = model.config
    device = model.start.device
    sampler = _Sampler(config.codebook_size, temperature, top_k, guidance_scale)
    empty = torch.empty(0, config.code_height, config.code_width, dtype=torch.long)
    context = (empty if prefix is None else prefix).to(device)
    index = start_frame
    for span in spans:
        texts = [(span.text, span.text_mask)]
        if null is not None and guidance_scale != 1.0:
            texts.append(null)
        cache = _start(model, texts, min(config.window_frames, len(context) + span.num_frames))
        context = context[len(context) - frames_in_window(len(context), config.window_frames) :]
        for frame_of_span in range(span.num_frames):
            restart = frame_of_span == 0
            if len(context) == config.window_frames:
                context = context[len(context) - frames_in_window(len(context), config.window_frames) :]
                restart = True
            uniforms = _uniforms(seed, index, model.codes_per_frame).to(device)
            frame = _draft_frame(model, cache, context, restart, sampler, uniforms).clone()
            yield frame
            context = torch.cat([context, frame[None]])
            index += 1
        context = context[-1:]


def frames_in_window(num_frames: int, window_frames: int) -> int:
    """How many of the latest of `num_frames` frames the next one is drafted from.

    A full window is cut to its latest half, then grows again; so drafting on from a prefix sees what one go would see.
    """
    while num_frames >= window_frames:
        num_frames -= window_frames - window_frames // 2
    return num_frames


@torch.inference_mode()
def _start(model: ARTransformer, texts: list[tuple[Tensor, Tensor]], num_frames: int) -> KVCache:
    device = model.start.device
    text = torch.stack([text.to(device) for text, _ in texts])
    text_mask = torch.stack([mask.to(device) for _, mask in texts])
    return model.prefill_text(text, text_mask, num_frames)


@torch.inference_mode()
def _draft_frame(
    model: ARTransformer, cache: KVCache, context: Tensor, restart: bool, sampler: _Sampler, uniforms: Tensor
) -> Tensor:
    """One frame (h, w) behind `context` (t, h, w), which the cache holds already unless it is to `restart` with it.

    Most codes stay from frame to frame. So each pass takes the next codes to be those of the frame before; as long as
    the codes drawn are the same, it has the logits of the next one, too. The codes are those of one pass a code.
    """
    guesses = context[-1:].flatten()[:-1]  # what follows the last code is no guess
    draws = uniforms.split(1)
    codes: list[Tensor] = []
    behind = torch.tensor([model.frame_token], device=uniforms.device)  # the latest token that the cache lacks
    while len(codes) < model.codes_per_frame:
        guessed = guesses[len(codes) :][:_GUESSES]
        if restart:
            logits, restart = model.prefill(context, cache).unsqueeze(1), False
        else:
            logits = model.step(torch.cat([behind, guessed]), cache)
        for place in range(logits.shape[1]):
            codes.append(sampler(logits[:, place], draws[len(codes)]))
            if place == len(guessed) or not torch.equal(codes[-1], guessed[place : place + 1]):
                break
        cache.length -= logits.shape[1] - 1 - place
        behind = codes[-1]
    model.step(behind, cache)
    return torch.cat(codes).view(model.config.code_height, model.config.code_width)


def _uniforms(seed: int, index: int, count: int) -> Tensor:
    """`count` numbers in [0, 1) that depend on the seed and the frame's index alone, on every device."""
    digest = hashlib.blake2b(f"{seed}/{index}".encode(), digest_size=8).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest, "big"))
    return torch.rand(count, generator=generator)
