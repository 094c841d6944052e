"""Autoregressive Transformer over text and video codes (2.1, "Autoregressive Modeling")."""

import math
from collections.abc import Sequence
from copy import copy
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from arlon_cli.config import ARConfig


class KVCache:
    """Keys and values of one batch of sequences: allocated once, written in place.

    The first L slots hold the text under `text_mask` (B, L), the next ones the start and the codes; `length` are
    filled. `tokens` (B, slots) are those behind the start.
    """

    def __init__(self, config: ARConfig, text_mask: Tensor, num_frames: int, dtype: torch.dtype) -> None:
        batch, self.text_length = text_mask.shape
        size = self.text_length + 1 + num_frames * (config.code_height * config.code_width + 1)
        shape = (2, batch, config.num_heads, size, config.width // config.num_heads)  # keys and values
        device = text_mask.device
        self.batch, self.dtype = batch, dtype
        self.length = 0
        self.tokens = torch.empty(batch, size - self.text_length - 1, device=device, dtype=torch.long)
        self.text_mask = text_mask
        self.text_mean = torch.zeros(batch, 1, 1, device=device, dtype=dtype)  # what each code gets from its text
        self.step_bias: Tensor | None = None  # (B, 1, 1, slots): -inf at padding, where a prompt has any
        if not text_mask.all():
            aligned = (size + 7) // 8 * 8  # GPU kernels want rows that start at multiples of 8
            self.step_bias = torch.zeros(batch, 1, 1, aligned, device=device, dtype=dtype)
            self.step_bias[:, 0, 0, : self.text_length].masked_fill_(~text_mask, -math.inf)
        self._layers = [torch.empty(shape, device=device, dtype=dtype) for _ in range(config.num_layers)]

    def bias(self, count: int) -> Tensor | None:
        """What hides padding, and from each of the `count` tokens to come those after it; None where nothing is."""
        bias = None if self.step_bias is None else self.step_bias[..., : self.length + count]
        if count == 1:
            return bias
        future = torch.full((count, count), -math.inf, device=self.tokens.device, dtype=self.dtype).triu(1)
        future = F.pad(future, (self.length, 0))
        return future if bias is None else bias + future

    def append(self, layer: int, new: Tensor) -> tuple[Tensor, ...]:
        """Write keys and values (2, B, H, N, D) behind the filled slots; return those of all slots up to these."""
        end = self.length + new.shape[3]
        self._layers[layer][:, :, :, self.length : end] = new
        return self._layers[layer][:, :, :, :end].unbind(0)

    def repeated(self, times: int) -> "KVCache":
        """A copy in which each row stands `times` times, one behind the other."""
        other = copy(self)
        other.batch = times * self.batch
        other.tokens, other.text_mask, other.text_mean = (
            rows.repeat_interleave(times, dim=0) for rows in (self.tokens, self.text_mask, self.text_mean)
        )
        if self.step_bias is not None:
            other.step_bias = self.step_bias.repeat_interleave(times, dim=0)
        other._layers = [layer.repeat_interleave(times, dim=1) for layer in self._layers]
        return other


class Block(nn.Module):
    """Pre-norm multi-head attention and feed-forward layer."""

    def __init__(self, config: ARConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.num_heads = config.num_heads
        self.norm1 = nn.LayerNorm(config.width)
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.proj = nn.Linear(config.width, config.width)
        self.norm2 = nn.LayerNorm(config.width)
        self.fc1 = nn.Linear(config.width, config.ffn_width)
        self.fc2 = nn.Linear(config.ffn_width, config.width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, mask: Tensor, cache: KVCache | None = None) -> Tensor:
        """x: (B, N, width); mask: (B, 1, N, keys), True where seen. Keys and values go through `cache`, if given."""
        batch, length, width = x.shape
        qkv = self.qkv(self.norm1(x)).view(batch, length, 3, self.num_heads, width // self.num_heads)
        qkv = qkv.permute(2, 0, 3, 1, 4)  # (3, B, H, N, D)
        q = qkv[0]
        k, v = qkv[1:].unbind(0) if cache is None else cache.append(self.layer, qkv[1:])
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).reshape(x.shape)
        x = x + self.dropout(self.proj(attended))
        return x + self.dropout(self.fc2(F.gelu(self.fc1(self.norm2(x)))))

    def step(self, x: Tensor, bias: Tensor | None, cache: KVCache) -> Tensor:
        """`forward` without dropout for a few positions, as columns x: (width, B·N), which CPUs multiply faster.

        bias: (B, 1, N, keys) is added to the scores.
        """
        width = len(x)
        qkv = _columns(self.qkv, self.norm1(x.t())).view(3, self.num_heads, width // self.num_heads, cache.batch, -1)
        qkv = qkv.permute(0, 3, 1, 4, 2)  # (3, B, H, N, D)
        k, v = cache.append(self.layer, qkv[1:])
        attended = F.scaled_dot_product_attention(qkv[0].contiguous(), k, v, attn_mask=bias)
        x = x + _columns(self.proj, attended.transpose(1, 2).reshape(-1, width))
        return x + _columns(self.fc2, F.gelu(_columns(self.fc1, self.norm2(x.t()))).t())


def _columns(linear: nn.Linear, x: Tensor) -> Tensor:
    """What `linear` makes of few rows x: (N, in), as columns (out, N)."""
    return torch.addmm(linear.bias.unsqueeze(1), linear.weight, x.t())


class ARTransformer(nn.Module):
    """Decoder-only Transformer: p(codes | text), one code at a time.

    The sequence is the text, a learned start, then the codes frame by frame in raster order, ⟨FRAME⟩ after each frame
    and ⟨EOS⟩ after the last. Text sees all of the text, codes see the text and what came before. Learned positions are
    factored into the frame in the window and the place in the frame, whose last is ⟨FRAME⟩'s.

    With `previous_frame_input`, each position also gets the code that stood, one frame before, where the code to be
    predicted will stand. That is not in the paper: half of all codes stay from frame to frame, which a small model
    takes long to find out by attention. The output starts as the codes' embedding, so that it says what it is given.
    With `text_mean_input`, an addition too, each position also gets the mean of the text's features, which says what
    scene it is before any attention to single words is learnt.
    With `prompt_end_input`, ours as well, ⟨EOS⟩ in place of ⟨FRAME⟩ stands behind frames that belong to another prompt:
    otherwise nothing would tell a frame from which the scene is to change from a first one of its own.

    With `checkpoint_layers`, training keeps each layer's input alone and computes the rest again for the gradient.
    """

    def __init__(self, config: ARConfig) -> None:
        super().__init__()
        self.config = config
        self.checkpoint_layers = False
        self.codes_per_frame = config.code_height * config.code_width
        self.frame_token = config.codebook_size
        self.eos_token = config.codebook_size + 1
        vocab_size = config.codebook_size + 2
        self.text_in = nn.Sequential(
            nn.Linear(config.text_width, config.width), nn.GELU(), nn.Linear(config.width, config.width)
        )
        self.text_position = nn.Parameter(torch.empty(config.max_text_tokens, config.width))
        self.start = nn.Parameter(torch.empty(config.width))
        self.code_embedding = nn.Embedding(vocab_size, config.width)
        self.previous = nn.Linear(config.width, config.width) if config.previous_frame_input else None
        self.text_mean = nn.Linear(config.text_width, config.width) if config.text_mean_input else None
        self.frame_position = nn.Parameter(torch.empty(config.window_frames, config.width))
        self.place_position = nn.Parameter(torch.empty(self.codes_per_frame + 1, config.width))
        self.dropout = nn.Dropout(config.dropout)
        blocks = nn.ModuleList(Block(config, layer) for layer in range(config.num_layers))
        self.blocks = cast("Sequence[Block]", blocks)
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, vocab_size)
        self._initialize()

    def _initialize(self) -> None:
        for name, parameter in self.named_parameters():
            if name.endswith("bias") or name in ("text_mean.weight", "previous.weight"):
                nn.init.zeros_(parameter)
            elif name.endswith(("proj.weight", "fc2.weight")):
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * self.config.num_layers))
            elif "norm" not in name:
                nn.init.normal_(parameter, std=0.02)
        with torch.no_grad():
            self.head.weight.copy_(self.code_embedding.weight)
            if self.previous is not None:
                self.previous.weight.fill_diagonal_(1.0)

    def forward(self, text: Tensor, text_mask: Tensor, codes: Tensor, ended: Tensor | None = None) -> Tensor:
        """Logits (B, T·(h·w+1)+1, vocabulary), in line with `targets(codes)`: each is of the token that comes next.

        text: (B, L, C); text_mask: (B, L) bool; codes: (B, T, h, w) long, T at most `window_frames`. The first `ended`
        (B,) frames of each row belong to another prompt.
        """
        x = self._embed_tokens(self._frames(codes, ended)) + self._mean(text, text_mask)
        x = torch.cat([self._embed_text(text), x], dim=1)
        mask = _attention_mask(text_mask, x.shape[1])
        x = self.dropout(x)
        for block in self.blocks:
            if self.checkpoint_layers and self.training:
                x = checkpoint(block, x, mask, use_reentrant=False)
            else:
                x = block(x, mask)
        return self.head(self.norm(x[:, text.shape[1] :]))

    def targets(self, codes: Tensor) -> Tensor:
        """The sequence (B, T·(h·w+1)+1) of codes (B, T, h, w): ⟨FRAME⟩ after each frame, ⟨EOS⟩ at the end."""
        return F.pad(self._frames(codes).flatten(1), (0, 1), value=self.eos_token)

    def prefill_text(self, text: Tensor, text_mask: Tensor, num_frames: int) -> KVCache:
        """A cache for `num_frames` frames that holds the text (B, L, C); positions that no row uses are left out."""
        used = text_mask.any(dim=0)
        x, text_mask = self._embed_text(text)[:, used], text_mask[:, used]
        cache = KVCache(self.config, text_mask, num_frames, x.dtype)
        cache.text_mean = self._mean(text[:, used], text_mask)
        mask = _attention_mask(text_mask, cache.text_length)
        for block in self.blocks:
            x = block(x, mask, cache)
        cache.length = cache.text_length
        return cache

    def prefill(self, codes: Tensor, cache: KVCache, ended: int = 0) -> Tensor:
        """Put codes (T, h, w), T >= 0, behind the text in place of all that was there, at the window's first frames.

        The first `ended` of them belong to another prompt. Returns the logits (B, vocabulary) of what comes next: the
        first code of frame T.
        """
        tokens = self._frames(codes.unsqueeze(0), torch.tensor([ended], device=codes.device))
        x = self._embed_tokens(tokens) + cache.text_mean
        cache.length = cache.text_length
        mask = _attention_mask(cache.text_mask, cache.length + x.shape[1])[:, :, cache.length :]
        for block in self.blocks:
            x = block(x, mask, cache)
        cache.length += x.shape[1]
        cache.tokens[:, : x.shape[1] - 1] = tokens.flatten()
        return self.head(self.norm(x[:, -1]))

    def step(self, tokens: Tensor, cache: KVCache) -> Tensor:
        """Append tokens (B, N); returns the logits (B, N, vocabulary) of what follows each.

        Taking tokens back is setting `cache.length`.
        """
        count = tokens.shape[-1]
        first = cache.length - cache.text_length - 1  # the index of the first token, behind the start
        cache.tokens[:, first : first + count] = tokens
        index = torch.arange(first, first + count, device=tokens.device)
        frame, place = index // (self.codes_per_frame + 1), index % (self.codes_per_frame + 1)
        x = self.code_embedding(tokens) + self.frame_position[frame] + self.place_position[place]
        if self.previous is not None:
            behind = self.code_embedding(cache.tokens[:, (index - self.codes_per_frame).clamp(min=0)])
            told = index >= self.codes_per_frame  # nothing stood there before the first frame
            x = x + _columns(self.previous, behind.flatten(0, 1)).t().reshape(behind.shape) * told.unsqueeze(1)
        x = (x + cache.text_mean).flatten(0, 1).t().contiguous()
        bias = cache.bias(count)
        for block in self.blocks:
            x = block.step(x, bias, cache)
        cache.length += count
        return _columns(self.head, self.norm(x.t())).t().view(cache.batch, count, -1)

    def _frames(self, codes: Tensor, ended: Tensor | None = None) -> Tensor:
        """The tokens (B, T, h·w + 1) of codes (B, T, h, w); the first `ended` (B,) frames belong to another prompt."""
        tokens = F.pad(codes.flatten(2), (0, 1), value=self.frame_token)
        if ended is not None and self.config.prompt_end_input:
            rows = ended.nonzero().flatten()
            tokens[rows, ended[rows] - 1, -1] = self.eos_token
        return tokens

    def _embed_text(self, text: Tensor) -> Tensor:
        return self.text_in(text.to(self.start.dtype)) + self.text_position[: text.shape[1]]

    def _mean(self, text: Tensor, text_mask: Tensor) -> Tensor:
        """What all codes get from the mean of their text, (B, 1, width)."""
        if self.text_mean is None:
            return self.start.new_zeros(len(text), 1, 1)
        total = (text * text_mask.unsqueeze(-1)).sum(dim=1, keepdim=True).to(self.start.dtype)
        return cast(Tensor, self.text_mean(total / text_mask.sum(dim=1).clamp(min=1)[:, None, None]))

    def _embed_tokens(self, tokens: Tensor) -> Tensor:
        """The start, then tokens (B, T, h·w + 1): (B, 1 + T·(h·w+1), width)."""
        batch, num_frames = tokens.shape[:2]
        if num_frames > self.config.window_frames:
            raise ValueError(f"{num_frames} frames of codes exceed the window of {self.config.window_frames}.")
        position = self.frame_position[:num_frames, None] + self.place_position
        frames = self.code_embedding(tokens) + position
        x = torch.cat([self.start.expand(batch, 1, -1), frames.flatten(1, 2)], dim=1)
        if self.previous is None or num_frames == 0:
            return x
        # the input at index i is followed by token i, which stands where token i - (h·w + 1) stood a frame before
        behind = tokens.flatten(1)[:, : (num_frames - 1) * tokens.shape[-1] + 1]
        return x + F.pad(self.previous(self.code_embedding(behind)), (0, 0, tokens.shape[-1], 0))


def _attention_mask(text_mask: Tensor, length: int) -> Tensor:
    """Who sees whom (B, 1, length, length): text the text, the rest the text and its past; nobody sees padding.

    Everything sees itself, so that no row of the softmax is empty.
    """
    text_length = text_mask.shape[1]
    mask = torch.ones(length, length, dtype=torch.bool, device=text_mask.device).tril()
    mask[:text_length, :text_length] = True
    valid = F.pad(text_mask, (0, length - text_length), value=True)
    itself = torch.eye(length, dtype=torch.bool, device=text_mask.device)
    return (mask & valid[:, None] | itself).unsqueeze(1)
