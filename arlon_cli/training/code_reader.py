"""A reader of codes: what a frame shows, told from its first codes on. Drafts learn from it, and videos never need it.

An addition of ours. Which codes make a rainy sky is learnt far sooner by reading codes than by drawing them.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from arlon_cli.training.ar import corrupt
from arlon_cli.training.classifier import VISIBLE
from arlon_cli.training.clips import LatentClips
from arlon_cli.training.data import attribute_values

_CORRUPTION = 0.3  # at most, of the codes that the reader learns from: what is drawn has errors
_SIZES = [len(values) for values in VISIBLE.values()]


class CodeReader(nn.Module):
    """Reads the attributes of `VISIBLE` from the beginnings of frames of codes, in raster order.

    What is known before a code comes from a causal Transformer, and meets the code in one hidden layer: so many
    candidates for the next code are read at once.
    """

    def __init__(self, codebook: Tensor, codes_per_frame: int, width: int = 160, num_layers: int = 3) -> None:
        super().__init__()
        self.register_buffer("codebook", codebook.detach().float().clone())
        self.vectors = nn.Linear(codebook.shape[1], width)
        self.codes = nn.Embedding.from_pretrained(torch.zeros(len(codebook), width), freeze=False)
        self.places = nn.Parameter(0.02 * torch.randn(codes_per_frame, width))
        self.start = nn.Parameter(0.02 * torch.randn(width))
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, 4, 3 * width, activation="gelu", batch_first=True, norm_first=True, dropout=0.1
            )
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(width)
        self.before = nn.Linear(width, 2 * width)
        self.next = nn.Linear(width, 2 * width)
        self.next_places = nn.Parameter(0.02 * torch.randn(codes_per_frame, 2 * width))
        self.head = nn.Linear(2 * width, sum(_SIZES))

    def forward(self, codes: Tensor, candidates: Tensor) -> Tensor:
        """Log-probabilities (B, N, K, values) of what frames show that begin as codes (B, N) do.

        At each place, the codes before it are known, and the one there is each of the candidates (B, N, K). The
        probabilities of an attribute's values add up to 1, and stand in the order of `VISIBLE`.
        """
        embedding = self.vectors(self.codebook) + self.codes.weight
        x = F.embedding(codes[:, :-1], embedding) + self.places[:-1]
        x = torch.cat([self.start.expand(len(codes), 1, -1), x], dim=1)
        future = nn.Transformer.generate_square_subsequent_mask(x.shape[1], device=x.device)
        for block in self.blocks:
            x = block(x, src_mask=future, is_causal=True)
        before = (self.before(self.norm(x)) + self.next_places).unsqueeze(2)
        read = self.head(F.gelu(before + F.embedding(candidates, self.next(embedding))))
        return torch.cat([logits.log_softmax(-1) for logits in read.float().split(_SIZES, dim=-1)], dim=-1)


def places_of(values: Tensor) -> Tensor:
    """Where values (B, A) of the attributes of `VISIBLE`, as indices, stand among a reader's log-probabilities."""
    return values + torch.tensor([0, *_SIZES[:-1]], device=values.device).cumsum(0)


def reader_loss(reader: CodeReader, codes: Tensor, values: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Mean cross-entropy over the attributes and places for codes (B, h, w), some corrupted, and values (B, A).

    Metrics: accuracies when all codes are read. Random numbers: torch's global generator.
    """
    share = _CORRUPTION * torch.rand(len(codes), 1, 1, device=codes.device).square()
    codes = corrupt(codes, share, reader.codes.num_embeddings).flatten(1)
    read = reader(codes, codes.unsqueeze(2)).squeeze(2)
    right = places_of(values)[:, None].expand(-1, codes.shape[1], -1)
    last = read[:, -1].detach().split(_SIZES, dim=-1)
    accuracies = [(some.argmax(1) == value).float().mean() for some, value in zip(last, values.unbind(1), strict=True)]
    return -read.gather(2, right).mean(), dict(zip(VISIBLE, accuracies, strict=True))


def read_frames(codes: Tensor, clips: LatentClips, frames_per_code: int) -> tuple[Tensor, Tensor]:
    """The frames (n, h, w) of the clips' codes (N, T, h, w) that show one state, and what is visible in it (n, A)."""
    frames, values = [], []
    for clip, (scene, begin) in enumerate(zip(clips.scenes, clips.starts, strict=True)):
        for index in range(codes.shape[1]):
            start = begin + index * frames_per_code
            if any(span.settled <= start and start + frames_per_code <= span.end for span in scene.spans):
                frames.append(codes[clip, index])
                values.append(attribute_values(scene, start, VISIBLE))
    return torch.stack(frames), torch.tensor(values, device=codes.device)
