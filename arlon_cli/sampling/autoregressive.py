"""Drafting: codes from text, one frame at a time, for any length (2.1, 4.5)."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from arlon_cli.config import ARConfig
from arlon_cli.models.ar_transformer import ARTransformer, KVCache
from arlon_cli.sampling.hold import Hold

_PASS = 32  # codes of a frame that a pass draws at most, all but the first behind guesses
_PASS_OF_EACH = 8  # the same of each frame, where several are drafted at once

_Text = tuple[Tensor, Tensor]  # features (L, C) and mask (L,) of a prompt


@dataclass(frozen=True, eq=False)
class Span:
    """Frames under one prompt: text (L, C), text_mask (L,) bool, `num_frames` code frames.

    `before` is the text and mask of another prompt that the frames before it were drafted for.
    """

    text: Tensor
    text_mask: Tensor
    num_frames: int
    before: _Text | None = None


@dataclass(frozen=True, eq=False)
class Ranking:
    """Each of the first `frames` under a prompt is the best of `candidates`, by the scores (N,) of frames (N, h, w).

    Where nothing comes before, the first is the best of `first_candidates`. These are drawn at a `temperature` of their
    own. Behind another prompt they are the first `change_frames`, drawn away from that prompt by `change_guidance`:
    otherwise what was there would stay, since most codes do.
    """

    scores: Callable[[Span, Tensor], Tensor]
    frames: int
    first_candidates: int
    candidates: int
    temperature: float
    change_frames: int = 0
    change_guidance: float = 1.0

    def num_frames(self, span: Span) -> int:
        """How many of a span, counting the frame before it."""
        return self.frames if span.before is None else 1 + self.change_frames


@dataclass(frozen=True, eq=False)
class _Sampler:
    """Draws codes under the first of `texts`, guided away from each of the others by its scale.

    `bias` (codebook size,) is added to their logits.
    """

    texts: tuple[_Text, ...]
    scales: tuple[float, ...]
    codebook_size: int
    temperature: float
    top_k: int
    bias: Tensor | None = None

    def away_from(self, text: _Text | None, scale: float) -> "_Sampler":
        """This, guided by `scale` away from a further text; as it is where there is none, or at a scale of 1."""
        if text is None or scale == 1.0:
            return self
        return replace(self, texts=(*self.texts, text), scales=(*self.scales, scale))

    def __call__(self, logits: Tensor, noise: Tensor) -> Tensor:
        """The codes (N,) that win by logits (texts, N, vocabulary) and Gumbel noise (N, codebook size) together.

        So each is drawn by its probability, and under distributions that differ little, most come out the same
        (Daliri et al., 2024).
        """
        prompted, *others = logits[..., : self.codebook_size].float()  # ⟨FRAME⟩ and ⟨EOS⟩ are placed, never drawn
        logits = prompted
        for scale, other in zip(self.scales, others, strict=True):
            logits = logits + (scale - 1.0) * (prompted - other)
        if self.bias is not None:
            logits = logits + self.bias
        if self.temperature == 0.0:
            return logits.argmax(-1)
        values, codes = logits.topk(min(self.top_k, self.codebook_size), sorted=False)
        winners = (values / self.temperature + noise.gather(1, codes)).argmax(-1, keepdim=True)
        return codes.gather(1, winners).squeeze(1)


def draft(
    model: ARTransformer,
    spans: Iterable[Span],
    *,
    seed: int,
    temperature: float,
    top_k: int,
    guidance_scale: float,
    null: _Text | None = None,
    ranking: Ranking | None = None,
    hold: Hold | None = None,
    prefix: Tensor | None = None,
    start_frame: int = 0,
) -> Iterator[Tensor]:
    """Draft the spans one after the other; yields a code frame (h, w) long at a time.

    Guidance: logits = null + guidance_scale · (prompt - null), with `null` the text (L, C) and mask (L,) of the null
    prompt; a scale of 1 needs none. A lower `temperature` lets less drift away, and 0 takes the likeliest code.
    `ranking` counts the frame before a span as one of its first; where a span has a prompt before it, ranked frames are
    guided away from that too, by (change_guidance - 1) · (prompt - before). `hold` holds each span to how it looks at
    first, or behind another prompt once that has had time to come true.

    The first span goes on from the codes `prefix` (t, h, w), each later one from the last frame before it (4.5);
    `frames_seen` says from which of many. `start_frame` is the index in the video of the first frame drafted: random
    numbers follow from (seed, index), so a longer draft starts with the shorter one.

    Raises ValueError for a setting out of its range.
    """
    if temperature < 0 or top_k < 1:
        raise ValueError(f"Temperature {temperature} must not be negative, and top_k {top_k} at least 1.")
    if guidance_scale != 1.0 and null is None:
        raise ValueError(f"guidance_scale {guidance_scale} needs the text of the null prompt.")
    config = model.config
    device = model.start.device
    empty = torch.empty(0, config.code_height, config.code_width, dtype=torch.long, device=device)
    past = [] if prefix is None else list(prefix.to(device))  # of the span, with the frame before it
    index = start_frame
    for span in spans:
        sampler = _Sampler(((span.text, span.text_mask),), (), config.codebook_size, temperature, top_k)
        sampler = sampler.away_from(null, guidance_scale)
        cache = _start(model, sampler.texts, min(config.window_frames, len(past) + span.num_frames))
        num_seen = config.window_frames  # so that the cache starts anew
        settled = 0 if span.before is None else _half(config)
        for _ in range(span.num_frames):
            seen = frames_seen(len(past), config)
            ended = 1 if span.before is not None and 0 in seen[:1] else 0  # of those seen
            restart, num_seen = len(seen) <= num_seen, len(seen)
            context = torch.stack([past[i] for i in seen]) if seen else empty
            if ranking is not None and len(past) < ranking.num_frames(span):
                count = ranking.candidates if past else ranking.first_candidates
                noise = _gumbel(seed, index, (model.codes_per_frame, count, config.codebook_size))
                warm = replace(sampler, temperature=ranking.temperature)
                away = warm.away_from(span.before, ranking.change_guidance)
                begun = _start(model, away.texts, len(seen) + 1)
                drawn = _draft_frames(model, begun, context, ended, True, away, noise)
                frame = drawn[ranking.scores(span, drawn).argmax()]
                num_seen = config.window_frames  # the cache knows nothing of it
            else:
                noise = _gumbel(seed, index, (model.codes_per_frame, 1, config.codebook_size))
                held = sampler if hold is None else replace(sampler, bias=hold.bias(past[settled:]))
                frame = _draft_frames(model, cache, context, ended, restart, held, noise)[0]
            yield frame
            past.append(frame)
            index += 1
        past = past[-1:]


def frames_seen(num_frames: int, config: ARConfig) -> list[int]:
    """The places of those of a span's `num_frames` frames that the next one is drafted from.

    A full window is cut to its latest half, then grows again; so drafting on from a prefix sees what one go would see.
    With `anchor_frame`, the first frame of the first such half stays in place of the oldest and keeps a long scene what
    it was. (A span's own first frame may still look as the prompt before it says.)
    """
    first, half = 0, _half(config)
    while num_frames - first >= config.window_frames:
        first += half
    latest = list(range(first, num_frames))
    return [half, *latest[1:]] if config.anchor_frame and first and latest else latest


def _half(config: ARConfig) -> int:
    """How many frames leave a full window first."""
    return config.window_frames - config.window_frames // 2


@torch.inference_mode()
def _start(model: ARTransformer, texts: Sequence[_Text], num_frames: int) -> KVCache:
    device = model.start.device
    text = torch.stack([text.to(device) for text, _ in texts])
    text_mask = torch.stack([mask.to(device) for _, mask in texts])
    return model.prefill_text(text, text_mask, num_frames)


@torch.inference_mode()
def _draft_frames(
    model: ARTransformer,
    cache: KVCache,
    context: Tensor,
    ended: int,
    restart: bool,
    sampler: _Sampler,
    noise: Tensor,
) -> Tensor:
    """Frames (N, h, w) that may each come behind `context` (t, h, w), drawn by noise (h·w, N, codebook size).

    The first `ended` of the context belong to another prompt. The cache, of a row for each text of the sampler, holds
    the context already, unless it is to `restart` with it; N frames want that, and go on in N copies of its rows.

    A pass takes the next codes to be as guessed, and draws each of them: those up to the first that comes out otherwise
    are what one pass a code would give, since the noise of each is settled. The others are the next guesses: what they
    hang on most, the frame before, was right (Teng et al., 2024, without their chance of another outcome). The first
    guess is that codes stay from frame to frame, as most do. All frames go on from where the slowest is.
    """
    count, num_frames = noise.shape[:2]
    noise = noise.to(context.device)
    codes = context[-1].flatten() if len(context) else context.new_zeros(count)
    codes = codes.repeat(num_frames, 1)
    behind = F.pad(codes[:, -1:], (0, 1), value=model.frame_token)  # the latest tokens, which the cache lacks
    known = 0
    while known < count:
        if restart:
            guessed, restart = codes[:, :0], False
            logits = model.prefill(context, cache, ended).unsqueeze(1).repeat_interleave(num_frames, dim=0)
            cache = cache if num_frames == 1 else cache.repeated(num_frames)
        else:
            length = _PASS if num_frames == 1 else _PASS_OF_EACH
            guessed = codes[:, known : min(known + length, count) - 1]
            tokens = torch.cat([behind, guessed], dim=1).repeat(len(sampler.texts), 1)
            logits = model.step(tokens, cache)[:, behind.shape[1] - 1 :]
        stop = known + guessed.shape[1] + 1
        logits = logits.unflatten(0, (-1, num_frames)).flatten(1, 2)
        drawn = sampler(logits, noise[known:stop].transpose(0, 1).flatten(0, 1)).view(num_frames, -1)
        right = int((drawn[:, :-1] == guessed).cumprod(1).sum(1).min())
        codes[:, known:stop] = drawn
        cache.length -= guessed.shape[1] - right
        known += right + 1
        behind = drawn[:, right : right + 1]
    return codes.unflatten(1, (model.config.code_height, model.config.code_width))


def _gumbel(seed: int, index: int, shape: tuple[int, ...]) -> Tensor:
    """Noise of a standard Gumbel distribution that depends on the seed and the frame's index alone, on every device."""
    digest = hashlib.blake2b(f"{seed}/{index}".encode(), digest_size=8).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest, "big"))
    return torch.rand(shape, generator=generator).log_().neg_().log_().neg_()
