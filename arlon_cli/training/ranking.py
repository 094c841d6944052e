"""First frames that show what their prompts say: of several that are drawn, those that a reader of codes finds right.

An addition of ours, after Dong et al. (2023), who rank what language models say. Which codes make a red sail is learnt
far sooner by reading codes than by drawing them.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from arlon_cli.dioramas import Scene, caption, mentioned
from arlon_cli.models.ar_transformer import ARTransformer
from arlon_cli.models.text_encoder import TextEncoder
from arlon_cli.training.ar import corrupt
from arlon_cli.training.classifier import VISIBLE
from arlon_cli.training.clips import LatentClips, files_to_write, save_whole
from arlon_cli.training.data import attribute_values, scene_of

_CANDIDATES, _KEPT = 8, 2  # first frames that are drawn for a prompt, and that are learnt at most
_TEMPERATURE, _TOP_K = 1.0, 100
_CORRUPTION = 0.3  # at most, of the codes that the reader learns from: what is drawn has errors


class CodeReader(nn.Module):
    """Reads the attributes of `VISIBLE` from frames of codes."""

    def __init__(self, codebook: Tensor, codes_per_frame: int, width: int = 128, num_layers: int = 3) -> None:
        super().__init__()
        self.register_buffer("codebook", codebook.detach().float().clone())
        self.vectors = nn.Linear(codebook.shape[1], width)
        self.codes = nn.Embedding.from_pretrained(torch.zeros(len(codebook), width), freeze=False)
        self.places = nn.Parameter(0.02 * torch.randn(codes_per_frame, width))
        self.blocks = nn.Sequential(
            *(
                nn.TransformerEncoderLayer(
                    width, 4, 3 * width, activation="gelu", batch_first=True, norm_first=True, dropout=0.1
                )
                for _ in range(num_layers)
            )
        )
        self.norm = nn.LayerNorm(width)
        self.heads = nn.ModuleList(nn.Linear(2 * width, len(values)) for values in VISIBLE.values())

    def forward(self, codes: Tensor) -> list[Tensor]:
        """Logits (B, values) of each attribute, in the order of `VISIBLE`, for codes (B, h, w)."""
        codes = codes.flatten(1)
        x = self.vectors(F.embedding(codes, self.codebook)) + self.codes(codes) + self.places  # type: ignore[arg-type]
        x = self.norm(self.blocks(x))
        pooled = torch.cat([x.mean(1), x.amax(1)], dim=1)
        return [head(pooled) for head in self.heads]


def reader_loss(reader: CodeReader, codes: Tensor, values: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Mean cross-entropy over the attributes for codes (B, h, w), some of them corrupted, and values (B, A).

    Metrics: accuracies. Random numbers: torch's global generator.
    """
    share = _CORRUPTION * torch.rand(len(codes), 1, 1, device=codes.device).square()
    logits = [some.float() for some in reader(corrupt(codes, share, len(reader.codes.weight)))]
    wanted = values.unbind(1)
    losses = [F.cross_entropy(some, value) for some, value in zip(logits, wanted, strict=True)]
    right = [(some.detach().argmax(1) == value).float().mean() for some, value in zip(logits, wanted, strict=True)]
    return torch.stack(losses).mean(), dict(zip(VISIBLE, right, strict=True))


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


@torch.inference_mode()
def draw_frames(model: ARTransformer, text: Tensor, text_mask: Tensor) -> Tensor:
    """A first frame (B, h, w) for each of the texts (B, L, C), by torch's global random numbers."""
    config, codes = model.config, []
    cache = model.prefill_text(text, text_mask, 1)
    empty = torch.empty(0, config.code_height, config.code_width, dtype=torch.long, device=text.device)
    logits = model.prefill(empty, cache)
    while True:
        values, likely = logits[:, : config.codebook_size].float().topk(min(_TOP_K, config.codebook_size))
        drawn = torch.multinomial((values / _TEMPERATURE).softmax(-1), 1)
        codes.append(likely.gather(1, drawn))
        if len(codes) == model.codes_per_frame:
            return torch.cat(codes, dim=1).view(-1, config.code_height, config.code_width)
        logits = model.step(codes[-1], cache)[:, 0]


@torch.inference_mode()
def best_frames(
    model: ARTransformer, text_encoder: TextEncoder, reader: CodeReader, scenes: list[Scene]
) -> Mapping[str, Tensor]:
    """First frames for a caption of each scene: `codes` (n, h, w), and `seeds` (n,) of their scenes.

    Of a caption's candidates, they are the likeliest two that the reader finds right in all that is mentioned, or the
    likeliest where none is.
    """
    prompts = [first_caption(scene) for scene in scenes]
    text, text_mask = (part.repeat_interleave(_CANDIDATES, 0) for part in text_encoder.encode(prompts))
    codes = draw_frames(model, text, text_mask)
    read = {name: logits.float().log_softmax(-1) for name, logits in zip(VISIBLE, reader(codes), strict=True)}
    kept, seeds = [], []
    for index, (scene, prompt) in enumerate(zip(scenes, prompts, strict=True)):
        attributes = scene.spans[0].attributes
        rows = slice(index * _CANDIDATES, (index + 1) * _CANDIDATES)
        likelihood, right = torch.zeros(_CANDIDATES), torch.ones(_CANDIDATES, dtype=torch.bool)
        for name in mentioned(prompt, attributes) & read.keys():
            value = VISIBLE[name].index(attributes[name])
            likelihood += read[name][rows, value].cpu()
            right &= (read[name][rows].argmax(1) == value).cpu()
        order = likelihood.argsort(descending=True).tolist()
        best = [i for i in order if right[i]][:_KEPT] or order[:1]
        kept += [codes[rows][i].cpu() for i in best]
        seeds += [scene.seed] * len(best)
    return {"codes": torch.stack(kept), "seeds": torch.tensor(seeds)}


def write_best_frames(
    folder: Path,
    model: ARTransformer,
    text_encoder: TextEncoder,
    reader: CodeReader,
    *,
    first: int,
    seconds: float,
    most: int,
    per_file: int,
    stop: Callable[[], bool],
) -> None:
    """Write `best_frames` into `folder` for so many seconds, or of `most` scenes; files that exist stay.

    The scenes' seeds go up from `first`.
    """
    for file, seeds in files_to_write(folder, first=first, per_file=per_file, most=most, seconds=seconds, stop=stop):
        torch.manual_seed(seeds[0])
        save_whole(dict(best_frames(model, text_encoder, reader, [scene_of(seed) for seed in seeds])), file)


def read_best_frames(folder: Path) -> tuple[list[str], Tensor]:
    """What `write_best_frames` wrote: captions, and codes (N, h, w)."""
    prompts, codes = [], []
    for file in sorted(folder.glob("*.safetensors")):
        tensors = load_file(file)
        prompts += [first_caption(scene_of(seed)) for seed in tensors["seeds"].tolist()]
        codes.append(tensors["codes"])
    return prompts, torch.cat(codes)


def first_caption(scene: Scene) -> str:
    """A caption of a scene's first state, always the same."""
    return caption(scene, 0, scene.seed)
