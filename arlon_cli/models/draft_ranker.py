"""Tells drafts that show their prompts from those that do not."""

import torch
from torch import Tensor, nn

from arlon_cli.config import RankerConfig


class DraftRanker(nn.Module):
    """How well frames of codes show what a prompt says: of several drafts, the best is kept.

    DALL·E ranks its samples so, by CLIP (Ramesh et al., 2021, section 2.6). This one reads attributes: what a text
    mentions, and what a frame shows. It is an addition of ours.
    """

    def __init__(self, config: RankerConfig) -> None:
        super().__init__()
        self.config = config
        width, num_values = config.width, sum(config.num_values)
        self.mentioned = nn.Linear(config.text_width, num_values)
        self.code_in = nn.Linear(config.codebook_dim, width)
        self.place_position = nn.Parameter(nn.init.normal_(torch.empty(config.codes_per_frame, width), std=0.02))
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, config.num_heads, 3 * width, activation="gelu", batch_first=True, norm_first=True, dropout=0.1
            )
            for _ in range(config.num_layers)
        )
        self.norm = nn.LayerNorm(width)
        self.shown = nn.Linear(2 * width, num_values)

    def mentions(self, text: Tensor, text_mask: Tensor) -> Tensor:
        """Logits (B, values) of what prompts say, of text (B, L, C) with its mask (B, L)."""
        said = text_mask.unsqueeze(2).to(self.norm.weight.dtype)
        mean = (text.to(said.dtype) * said).sum(1) / said.sum(1).clamp_min(1)
        logits: Tensor = self.mentioned(mean)
        return logits.float()

    def shows(self, vectors: Tensor) -> Tensor:
        """Log-probabilities (B, values) of what frames show; those of the values of an attribute add up to 1.

        vectors (B, D, h, w) are the codebook's for the codes of a frame.
        """
        x = self.code_in(vectors.to(self.norm.weight.dtype).flatten(2).transpose(1, 2)) + self.place_position
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        logits = self.shown(torch.cat([x.mean(1), x.amax(1)], dim=1)).float()
        return torch.cat([some.log_softmax(1) for some in logits.split(self.config.num_values, dim=1)], dim=1)

    def forward(self, text: Tensor, text_mask: Tensor, vectors: Tensor) -> Tensor:
        """Scores (B,) of frames, `vectors` as of `shows`, for text (1 or B, L, C) under its mask (1 or B, L).

        The expected log-probability of what the prompt mentions.
        """
        return (self.mentions(text, text_mask).sigmoid() * self.shows(vectors)).sum(1)
