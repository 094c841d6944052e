"""Codes on disk: a safetensors file with the codes of a clip and what they were made of and with."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from arlon_cli.config import ModelConfig
from arlon_cli.errors import ArlonError, InputError
from arlon_cli.storage.partial import write_whole
from arlon_cli.storage.records import build_record


@dataclass(frozen=True)
class CodesRecord:
    """Whose codes they are, and of what: a clip of `num_frames` frames at the model's size and rate."""

    model: str
    model_digest: str
    width: int
    height: int
    fps: int
    num_frames: int
    source: str


def write_codes(path: Path, codes: Tensor, record: CodesRecord) -> None:
    """Write codes (t, h, w) to `path`, which appears whole. Raises ArlonError where it cannot be written."""
    tensors = {"codes": codes.to("cpu", torch.int32).contiguous()}
    metadata = {"arlon": json.dumps(asdict(record), ensure_ascii=False)}
    try:
        write_whole(path, save(tensors, metadata))  # save_file would keep others from reading it
    except (OSError, SafetensorError) as error:
        raise ArlonError(f"Could not write {path}: {getattr(error, 'strerror', None) or error}.") from error


def read_codes(path: Path) -> tuple[Tensor, CodesRecord]:
    """Codes (t, h, w) long and their record. Raises InputError where a file is missing, damaged, or of another kind."""
    if not path.is_file():
        raise InputError(f"There is no file {path}.")
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("arlon", "")
            names = list(file.keys())
            codes = file.get_tensor("codes") if "codes" in names else torch.empty(0)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} holds no codes that can be read: {error}.") from error
    try:
        record = build_record(CodesRecord, json.loads(text))
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise InputError(f"{path} holds no codes: it was not made by `arlon encode`.") from error
    if names != ["codes"] or codes.ndim != 3 or codes.dtype != torch.int32:
        raise InputError(f"{path} holds no codes: it was not made by `arlon encode`.")
    return codes.long(), record


def check_codes(path: Path, codes: Tensor, record: CodesRecord, config: ModelConfig, digest: str) -> None:
    """Raises InputError where the codes of a file are not those of the model of this configuration and digest."""
    if record.model_digest != digest:
        raise InputError(
            f"{path} holds codes of the model {record.model} {record.model_digest[:12]}, not of {config.name} "
            f"{digest[:12]}; encode the clip again with this model."
        )
    num_latents = config.video_vae.chunk.latents(record.num_frames)
    size = (-(-num_latents // config.latent_vqvae.ratio[0]), config.ar.code_height, config.ar.code_width)
    geometry = (config.width, config.height, config.fps)
    if tuple(codes.shape) != size or (record.width, record.height, record.fps) != geometry or record.num_frames < 1:
        raise InputError(
            f"{path} is damaged: its codes {tuple(codes.shape)} are not those of {record.num_frames} frames."
        )
    if int(codes.min()) < 0 or int(codes.max()) >= config.latent_vqvae.codebook_size:
        raise InputError(f"{path} is damaged: it holds codes that {config.name} has not.")
