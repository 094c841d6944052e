"""Model configurations: frozen dataclasses without hidden defaults, read from and written to JSON without torch."""

import dataclasses
import json
import math
import types
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeVar, get_args, get_origin

from arlon_cli.errors import CheckpointError

PIXELS_PER_LATENT = 8
"""A side of what one latent position covers, in both presets' video VAEs"""

DECODED_LATENTS = 4
"""Latent frames that a video VAE decodes at once, where its chunks have no more"""

_Config = TypeVar("_Config")


@dataclass(frozen=True)
class TextEncoderConfig:
    """A T5 encoder; `width` is also the number of channels of the text features."""

    vocab_size: int
    width: int
    num_layers: int
    num_heads: int
    ffn_width: int
    max_tokens: int


@dataclass(frozen=True)
class PublishedT5Config:
    """A T5 encoder that others published, which describes itself; prompts are cleaned as Open-Sora v1.2 does.

    `width` and `max_tokens` are what the other parts were made for; `suffix` is appended to each prompt. With
    `num_parameters`, its memory is known before it is here.
    """

    width: int
    max_tokens: int
    suffix: str
    num_parameters: int


@dataclass(frozen=True)
class Chunk:
    """The frames that a video VAE handles as one, and their latents: all of a video's frame arithmetic.

    Each latent stands for four frames, the first of a chunk for what these leave.
    """

    num_frames: int
    num_latents: int

    @property
    def frames_per_latent(self) -> float:
        """On average."""
        return self.num_frames / self.num_latents

    def latents(self, num_frames: int) -> int:
        """The latents of whole chunks that hold so many frames."""
        return -(-num_frames // self.num_frames) * self.num_latents

    def frames(self, num_latents: int) -> int:
        """The frames of a video's first latents."""
        whole, rest = divmod(num_latents, self.num_latents)
        return whole * self.num_frames + (self.num_frames - 4 * (self.num_latents - rest) if rest else 0)

    def filled(self, num_frames: int) -> int:
        """The least number of frames, of so many or more, that are those of whole latents."""
        whole, rest = divmod(num_frames, self.num_frames)
        return whole * self.num_frames + (rest + (self.num_frames - rest) % 4 if rest else 0)


@dataclass(frozen=True)
class VideoVAEConfig:
    """Causal 3-D VAE, 4 frames and 8×8 pixels to one latent position.

    `widths` are those of the stages at 1/4, 1/8 (half time) and 1/8 (latent grid) resolution.
    """

    chunk: ClassVar[Chunk] = Chunk(num_frames=4, num_latents=1)
    latent_channels: int
    widths: tuple[int, int, int]
    num_res_blocks: int


@dataclass(frozen=True)
class SpatialVAEConfig:
    """The 2-D VAE of Open-Sora v1.2, a diffusers `AutoencoderKL`; `widths` are those of its stages.

    Its latents are multiplied by `scaling_factor`; it works on `micro_batch` frames at once.
    """

    latent_channels: int
    widths: tuple[int, ...]
    num_res_blocks: int
    num_groups: int
    scaling_factor: float
    micro_batch: int


@dataclass(frozen=True)
class TemporalVAEConfig:
    """The temporal VAE of Open-Sora v1.2; `filters` times each of `channel_multipliers` are its stages' widths."""

    in_out_channels: int
    latent_embed_dim: int
    embed_dim: int
    filters: int
    num_res_blocks: int
    channel_multipliers: tuple[int, ...]
    temporal_downsample: tuple[bool, ...]
    num_groups: int


@dataclass(frozen=True)
class OpenSoraVAEConfig:
    """Open-Sora v1.2's VAE: a 2-D VAE of single frames, 8×8 pixels to a position, then one in time, 17 frames to 5."""

    chunk: ClassVar[Chunk] = Chunk(num_frames=17, num_latents=5)
    spatial: SpatialVAEConfig
    temporal: TemporalVAEConfig

    @property
    def latent_channels(self) -> int:
        return self.temporal.embed_dim


@dataclass(frozen=True)
class LatentVQVAEConfig:
    """Latent VQ-VAE (2.1): `ratio` is (time, height, width) from latents to codes, powers of two.

    Both ways have `width` channels on the codes' grid and `fine_width` on the latents', where the decoder has
    `num_refine_blocks` convolutional blocks.
    """

    latent_channels: int
    ratio: tuple[int, int, int]
    width: int
    num_res_blocks: int
    num_refine_blocks: int
    fine_width: int
    num_heads: int
    codebook_size: int
    codebook_dim: int


@dataclass(frozen=True)
class ARConfig:
    """Decoder-only Transformer over text and codes (2.1).

    `previous_frame_input`, `text_mean_input`, `prompt_end_input` and `anchor_frame`, which past the window stays in
    view, are ours.
    """

    text_width: int
    max_text_tokens: int
    codebook_size: int
    code_height: int
    code_width: int
    window_frames: int
    previous_frame_input: bool
    text_mean_input: bool
    prompt_end_input: bool
    anchor_frame: bool
    width: int
    num_layers: int
    num_heads: int
    ffn_width: int
    dropout: float


@dataclass(frozen=True)
class RankerConfig:
    """The ranker of drafts, an addition of ours; `num_values` are those of each attribute that it reads.

    It is shown F of a code frame, whose latents and channels make `condition_channels` together.

    Of the first `frames` that are drafted for a prompt, each is the best of `candidates`, drawn at `temperature`, and a
    scene's very first, on which most hangs, the best of `first_candidates`; behind another prompt the first
    `change_frames`, away from that by a guidance of `change_guidance`.

    `usual` is a value of each attribute, or -1: what a scene had better show where its first prompt says nothing of it,
    by a `preference` in nats.
    """

    text_width: int
    condition_channels: int
    num_values: tuple[int, ...]
    width: int
    num_blocks: int
    frames: int
    first_candidates: int
    candidates: int
    temperature: float
    change_frames: int
    change_guidance: float
    usual: tuple[int, ...]
    preference: float


@dataclass(frozen=True)
class STDiT3Config:
    """Open-Sora v1.2's spatial-temporal DiT; `depth` counts pairs of a spatial and a temporal block."""

    in_channels: int
    pred_sigma: bool
    patch_size: tuple[int, int, int]
    hidden_size: int
    depth: int
    num_heads: int
    mlp_ratio: float
    caption_channels: int
    model_max_length: int
    qk_norm: bool
    input_sq_size: int


@dataclass(frozen=True)
class SemanticInjectionConfig:
    """Semantic injection (2.2): which layers, and by which of Table 3's architectures.

    `fusion` is `adaptive_norm`, `mlp_adapter` or `controlnet`; `condition_noise` is `uncertainty`, `gaussian` or
    `none`, applied in training with `noise_probability` per adapter block (2.3). `add_to_input` and `linear_estimate`
    are additions of ours: F_0 also enters before the first layer, and the network corrects the linear guess of v.
    """

    condition_channels: int
    layers: tuple[int, ...]
    fusion: str
    condition_noise: str
    noise_probability: float
    add_to_input: bool
    linear_estimate: bool


@dataclass(frozen=True)
class SegmentConfig:
    """How a long video is cut: lengths in latent frames."""

    num_latents: int
    overlap: int


@dataclass(frozen=True)
class SamplingConfig:
    """Defaults of a preset's samplers.

    Without codes, sampling begins with noise and may want more steps, `num_steps_without_codes`. `start_timestep`
    is t₀ of the codes as initialization (4.4); `timestep_transform` is Open-Sora's, by size and length. `ar_hold` is
    how strongly drafts are held to how a scene looked at first; 0 lets them drift.
    """

    num_steps: int
    num_steps_without_codes: int
    guidance_scale: float
    start_timestep: float
    timestep_transform: bool
    ar_temperature: float
    ar_top_k: int
    ar_guidance_scale: float
    ar_hold: float

    def steps(self, use_ar: bool) -> int:
        """Those of what is rendered with codes, or without."""
        return self.num_steps if use_ar else self.num_steps_without_codes


@dataclass(frozen=True)
class PublishedParts:
    """Where parts that others published are: ids on the Hub, or folders in the Hub's layout.

    `dit` is the backbone without injection.
    """

    text_encoder: str
    video_vae: str
    dit: str


@dataclass(frozen=True)
class ModelConfig:
    """Everything that a checkpoint's `config.json` states; what is None is left out there."""

    name: str
    height: int
    width: int
    fps: int
    text_encoder: TextEncoderConfig | PublishedT5Config
    video_vae: VideoVAEConfig | OpenSoraVAEConfig
    latent_vqvae: LatentVQVAEConfig
    latent_vqvae_coarse: LatentVQVAEConfig
    ar: ARConfig
    ranker: RankerConfig | None
    dit: STDiT3Config
    injection: SemanticInjectionConfig
    segments: SegmentConfig
    sampling: SamplingConfig
    published: PublishedParts | None

    def to_json(self) -> str:
        stated = {name: value for name, value in dataclasses.asdict(self).items() if value is not None}
        return json.dumps(stated, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote. Raises CheckpointError that names a missing or unknown field."""
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise CheckpointError(f"config.json is not JSON: {error}.") from error
        return _build(cls, data, "config.json")


def _build(cls: type[_Config], data: Any, where: str) -> _Config:
    if not isinstance(data, dict):
        raise CheckpointError(f"{where}: expected an object, found {type(data).__name__}.")
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    optional = {name for name, field in fields.items() if types.NoneType in get_args(field.type)}
    if missing := fields.keys() - data.keys() - optional:
        raise CheckpointError(f"{where}: missing {', '.join(sorted(missing))}.")
    if unknown := data.keys() - fields.keys():
        raise CheckpointError(f"{where}: unknown {', '.join(sorted(unknown))}.")
    values = {}
    for name, field in fields.items():
        value = data.get(name)
        if (nested := _config_class(field.type, value)) is not None:
            value = _build(nested, value, f"{where}: {name}")
        elif not _is_a(field.type, value):
            wanted = getattr(field.type, "__name__", "") if isinstance(field.type, type) else field.type
            raise CheckpointError(f"{where}: {name} is {json.dumps(value)[:60]}, which is no {wanted}.")
        values[name] = tuple(value) if isinstance(value, list) else value
    return cls(**values)


def _is_a(field_type: Any, value: Any) -> bool:
    """Whether a JSON value is one of a field's type: a number, a text, true or false, or a list of them for a tuple."""
    if get_origin(field_type) is tuple:
        kinds = get_args(field_type)
        if not isinstance(value, list) or (kinds[-1] is not Ellipsis and len(value) != len(kinds)):
            return False
        kinds = kinds[:1] * len(value) if kinds[-1] is Ellipsis else kinds
        return all(map(_is_a, kinds, value))
    if kinds := get_args(field_type):
        return any(_is_a(kind, value) for kind in kinds)
    if field_type is float:
        return type(value) in (int, float) and math.isfinite(value)
    return type(value) is field_type


def _config_class(field_type: Any, value: Any) -> type | None:
    """The dataclass that `value` is to become; among several, the one whose fields are most like its own."""
    if value is None and types.NoneType in get_args(field_type):
        return None
    kinds = get_args(field_type) or (field_type,)
    classes = [kind for kind in kinds if isinstance(kind, type) and dataclasses.is_dataclass(kind)]
    names = value.keys() if isinstance(value, dict) else set()
    return min(classes, key=lambda kind: len(names ^ kind.__dataclass_fields__.keys()), default=None)
