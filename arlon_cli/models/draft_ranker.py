"""Tells drafts that show their prompts from those that do not."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from arlon_cli.config import RankerConfig

_GROUPS = 8
_SURE = 0.8  # how probable the first mention of an attribute is, at least, for those behind it to count less
_LATER = 3.0  # by how many nats


class _Block(nn.Module):
    """Two convolutions (B, C, H, W) beside what they are given."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.GroupNorm(_GROUPS, width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.GroupNorm(_GROUPS, width),
            nn.SiLU(),
            nn.Dropout(0.1),
            nn.Conv2d(width, width, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class DraftRanker(nn.Module):
    """How well frames of codes show what a prompt says: of several drafts, the best is kept.

    DALL·E ranks its samples so, by CLIP (Ramesh et al., 2021, section 2.6). This one reads attributes: what a text
    mentions, and what F of a frame shows, a picture for convolutions. It is an addition of ours.
    """

    def __init__(self, config: RankerConfig) -> None:
        super().__init__()
        self.config = config
        width, num_values = config.width, sum(config.num_values)
        self.mentioned = nn.Linear(config.text_width, 2 * num_values)
        self.condition_in = nn.Conv2d(config.condition_channels, width, 3, padding=1)
        self.fine = _Block(width)
        self.down = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.coarse = nn.ModuleList(_Block(2 * width) for _ in range(config.num_blocks))
        self.norm = nn.GroupNorm(_GROUPS, 2 * width)
        self.shown = nn.Linear(4 * width, num_values)

    def mentions(self, text: Tensor, text_mask: Tensor) -> Tensor:
        """Logits (B, values) of what prompts say, of text (B, L, C) with its mask (B, L).

        Each value looks for its own words, by one query.
        """
        attention, logits = self._read(text, text_mask)
        return (attention * logits).sum(1)

    def _read(self, text: Tensor, text_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Where each value looks, and the logits of its being said there, both (B, L, values)."""
        attention, logits = self.mentioned(text.to(self.mentioned.weight.dtype)).float().chunk(2, dim=2)
        return attention.masked_fill(~text_mask.unsqueeze(2), -torch.inf).softmax(1), logits

    def means(self, text: Tensor, text_mask: Tensor) -> Tensor:
        """Log-probabilities (B, values) that prompts are met by a value of what they are about.

        Of several values of an attribute, the first is its subject's: in "a red sailboat on a blue sea", red.
        """
        attention, logits = self._read(text, text_mask)
        said = F.logsigmoid((attention * logits).sum(1))
        places = torch.einsum("blv,l->bv", attention, torch.arange(text.shape[1], device=text.device).float())
        met, sizes = [], self.config.num_values
        for some, place in zip(said.split(sizes, 1), places.split(sizes, 1), strict=True):
            first = place.masked_fill(some.exp() < _SURE, torch.inf).amin(1, keepdim=True)
            met.append(some - _LATER * (place > first))
        return torch.cat(met, dim=1)

    def shows(self, condition: Tensor) -> Tensor:
        """Log-probabilities (B, values) of what frames show; those of the values of an attribute add up to 1.

        condition (B, C, r, H, W) is F of the codes of a frame.
        """
        x = self.condition_in(condition.to(self.condition_in.weight.dtype).flatten(1, 2))
        x = self.down(self.fine(x))
        for block in self.coarse:
            x = block(x)
        x = F.silu(self.norm(x)).flatten(2)
        logits = self.shown(torch.cat([x.mean(2), x.amax(2)], dim=1)).float()
        return torch.cat([some.log_softmax(1) for some in logits.split(self.config.num_values, dim=1)], dim=1)

    def forward(self, text: Tensor, text_mask: Tensor, condition: Tensor, *, first: bool) -> Tensor:
        """Scores (B,) of frames, `condition` as of `shows`, for text (1 or B, L, C) under its mask (1 or B, L).

        For each attribute, as far as the prompt mentions it, the log-probability of what it `means`; and with the
        `first` prompt of a scene, the preference for what is usual of what it does not mention. Later prompts leave
        such things as they are.
        """
        told, shown = self.means(text, text_mask), self.shows(condition)
        scores, sizes = shown.new_zeros(()), self.config.num_values
        for usual, some, seen in zip(self.config.usual, told.split(sizes, 1), shown.split(sizes, 1), strict=True):
            most = some.amax(1)
            scores = scores + most.exp() * (torch.logsumexp(some + seen, dim=1) - most)
            if first and usual >= 0:
                scores = scores + self.config.preference * (1 - most.exp()) * seen[:, usual].exp()
        return scores
