"""Checkpoints: a folder with `config.json` and, per part, safetensors in shards that any host of code accepts."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from arlon_cli.config import ModelConfig, OpenSoraVAEConfig, TextEncoderConfig
from arlon_cli.errors import CheckpointError
from arlon_cli.storage.weights import read_config

PARTS = ("text_encoder", "video_vae", "latent_vqvae", "latent_vqvae_coarse", "ar", "dit", "classifier")
SHARD_BYTES = 15_000_000
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


def save_checkpoint(folder: Path, config: ModelConfig, parts: dict[str, nn.Module], dtype: torch.dtype) -> None:
    """Write `config` and `parts` as the checkpoint `folder`, which appears whole or not at all.

    Matrices are kept in `dtype`, vectors (biases, norms, statistics) as they are. Raises CheckpointError where `folder`
    holds something that is no checkpoint, or a part has no name of `PARTS`.
    """
    if unknown := parts.keys() - set(PARTS):
        raise CheckpointError(f"A checkpoint has no part {', '.join(sorted(unknown))}; its parts: {', '.join(PARTS)}.")
    _check_place(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _new_folder(folder) as temporary:
        (temporary / "config.json").write_text(config.to_json(), encoding="utf-8")
        for name, module in parts.items():
            _save_tensors(temporary / name, _stored(module.state_dict(), dtype))
            if name == "text_encoder":
                tokenizer: Tokenizer = module.tokenizer  # type: ignore[assignment]
                (temporary / name / "tokenizer.json").write_text(tokenizer.to_str(pretty=True), encoding="utf-8")
            if name == "classifier":
                (temporary / name / "attributes.json").write_text(json.dumps(module.attributes), encoding="utf-8")


def replace_part(folder: Path, source: "Checkpoint", part: str, tensors: dict[str, Tensor], dtype: torch.dtype) -> None:
    """Write the checkpoint `folder`, which is `source` but for a part, of which it holds the `tensors`.

    Files of the other parts are linked where the file system can do that, else copied. `folder` appears whole or not at
    all, matrices in `dtype`. Raises CheckpointError where it holds something that is no checkpoint, or is `source`.
    """
    if folder.resolve() == source.folder.resolve():
        raise CheckpointError(f"{folder} is the checkpoint that training starts from; name another folder.")
    _check_place(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _new_folder(folder) as temporary:
        for file in source.files():
            place = file.relative_to(source.folder)
            if place.parts[0] != part:
                (temporary / place).parent.mkdir(parents=True, exist_ok=True)
                _link(file, temporary / place)
        _save_tensors(temporary / part, _stored(tensors, dtype))


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """A folder to be written, which takes the place of `folder` when the block ends without an error."""
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir()
        yield temporary
        if folder.exists():
            shutil.rmtree(folder)
        temporary.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _check_place(folder: Path) -> None:
    if folder.exists() and not (folder / "config.json").exists() and any(folder.iterdir()):
        raise CheckpointError(f"{folder} holds other files; save the checkpoint in a new folder.")


def _link(file: Path, place: Path) -> None:
    try:
        place.hardlink_to(file.resolve())
    except OSError:  # another file system, or one without links
        shutil.copy2(file, place)


class Checkpoint:
    """A checkpoint folder, opened for reading. Raises CheckpointError where it is none."""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise CheckpointError(f"There is no checkpoint folder at {folder}.")
        file = folder / "config.json"
        if not file.is_file():
            raise CheckpointError(f"{folder} is no checkpoint: it has no config.json.")
        self.folder = folder
        self.config = read_config(folder)

    @cached_property
    def digest(self) -> str:
        """SHA-256, in hexadecimal, over the names and hashes of all files."""
        total = hashlib.sha256()
        for file in self.files():
            with file.open("rb") as stream:
                content = hashlib.file_digest(stream, "sha256").hexdigest()
            total.update(f"{file.relative_to(self.folder).as_posix()} {content}\n".encode())
        return total.hexdigest()

    def part_digest(self, part: str) -> str:
        """SHA-256, in hexadecimal, over a part's configuration, the names and hashes of its files, and its id."""
        total = hashlib.sha256(json.dumps(asdict(getattr(self.config, part)), sort_keys=True).encode())
        if self.config.published is not None:
            total.update(str(getattr(self.config.published, part, "")).encode())
        for file in self.files():
            if file.relative_to(self.folder).parts[0] == part:
                with file.open("rb") as stream:
                    total.update(file.name.encode() + hashlib.file_digest(stream, "sha256").digest())
        return total.hexdigest()

    def has(self, part: str) -> bool:
        """Whether the folder holds weights of a part."""
        return any((self.folder / part / name).is_file() for name in (WEIGHTS, INDEX))

    @property
    def num_bytes(self) -> int:
        """Size of all files."""
        return sum(file.stat().st_size for file in self.files())

    def load(self, part: str, device: torch.device | str, dtype: torch.dtype) -> nn.Module:
        """A part of `PARTS`, for inference. Raises CheckpointError that names a missing, extra or misshapen tensor."""
        with torch.device("meta"):
            module = self._build(part)
        tensors = self.tensors(part)
        expected = module.state_dict()
        where = f"{part} of {self.folder}"
        if missing := [name for name in expected if name not in tensors]:
            raise CheckpointError(f"{where} lacks the tensor {_some(missing)}.")
        if extra := [name for name in tensors if name not in expected]:
            raise CheckpointError(f"{where} has the tensor {_some(extra)}, which the model does not know.")
        for name, value in tensors.items():
            if value.shape != expected[name].shape:
                shapes = f"{tuple(value.shape)} instead of {tuple(expected[name].shape)}"
                raise CheckpointError(f"{where}: the tensor {name} has shape {shapes}.")
        placed = {
            name: value.to(device, dtype if value.is_floating_point() else value.dtype)
            for name, value in tensors.items()
        }
        module.load_state_dict(placed, strict=True, assign=True)
        return module.eval().requires_grad_(False)

    def tensors(self, part: str) -> dict[str, Tensor]:
        """The tensors of a part as stored, on the CPU. Raises CheckpointError for a file that is missing or damaged."""
        folder = self.folder / part
        files = [folder / WEIGHTS]
        if (folder / INDEX).is_file():
            try:
                names = json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values()
            except (ValueError, KeyError, AttributeError) as error:
                raise CheckpointError(f"{folder / INDEX} is damaged: {error}.") from error
            files = [folder / name for name in dict.fromkeys(names)]
        tensors: dict[str, Tensor] = {}
        for file in files:
            if not file.is_file():
                raise CheckpointError(f"The checkpoint lacks the file {file}.")
            try:
                tensors |= load_file(file)
            except (SafetensorError, OSError) as error:
                raise CheckpointError(f"{file} is damaged: {error}.") from error
        return tensors

    def tokenizer(self) -> Tokenizer:
        """The text encoder's tokenizer. Raises CheckpointError where it is missing or damaged."""
        file = self.folder / "text_encoder" / "tokenizer.json"
        if not file.is_file():
            raise CheckpointError(f"The checkpoint lacks the file {file}.")
        try:
            return Tokenizer.from_str(file.read_text(encoding="utf-8"))
        except Exception as error:  # tokenizers raises plain Exception
            raise CheckpointError(f"{file} is damaged: {error}.") from error

    def attributes(self) -> dict[str, tuple[str, ...]]:
        """What the classifier tells, and the values of each. Raises CheckpointError where it is missing or damaged."""
        file = self.folder / "classifier" / "attributes.json"
        if not file.is_file():
            raise CheckpointError(f"The checkpoint lacks the file {file}.")
        try:
            return {name: tuple(values) for name, values in json.loads(file.read_text(encoding="utf-8")).items()}
        except (ValueError, AttributeError, TypeError) as error:
            raise CheckpointError(f"{file} is damaged: {error}.") from error

    def files(self) -> list[Path]:
        """All that belongs to the checkpoint, in the order of the names."""
        return sorted(file for file in self.folder.rglob("*") if file.suffix in (".json", ".safetensors"))

    def _build(self, part: str) -> nn.Module:
        config = self.config
        if part == "text_encoder":
            from arlon_cli.models.text_encoder import TextEncoder

            assert isinstance(config.text_encoder, TextEncoderConfig)
            return TextEncoder(config.text_encoder, self.tokenizer())
        if part == "video_vae":
            if isinstance(config.video_vae, OpenSoraVAEConfig):
                from arlon_cli.models.opensora_vae import OpenSoraVAE

                return OpenSoraVAE(config.video_vae)
            from arlon_cli.models.video_vae import VideoVAE

            return VideoVAE(config.video_vae)
        if part in ("latent_vqvae", "latent_vqvae_coarse"):
            from arlon_cli.models.latent_vqvae import LatentVQVAE

            return LatentVQVAE(getattr(config, part))
        if part == "ar":
            from arlon_cli.models.ar_transformer import ARTransformer

            return ARTransformer(config.ar)
        if part == "dit":
            from arlon_cli.models.stdit import STDiT3

            return STDiT3(config.dit, config.injection)
        if part == "classifier":
            from arlon_cli.models.attribute_classifier import AttributeClassifier

            return AttributeClassifier(self.attributes())
        raise CheckpointError(f"A checkpoint has no part {part}; its parts: {', '.join(PARTS)}.")


def _stored(tensors: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    stored = {}
    for name, value in tensors.items():
        kept = value.detach().to("cpu", dtype if value.is_floating_point() and value.ndim > 1 else value.dtype)
        stored[name] = kept.contiguous().clone()
    return stored


def _save_tensors(folder: Path, tensors: dict[str, Tensor]) -> None:
    """Write tensors as one file, or as shards and an index in the style of Hugging Face's hub."""
    folder.mkdir()
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, value in tensors.items():
        if shards[-1] and size + value.nbytes > SHARD_BYTES:
            shards.append({})
            size = 0
        shards[-1][name] = value
        size += value.nbytes
    if len(shards) == 1:
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
        return
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        save_file(shard, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(shard, file)
    index = {"metadata": {"total_size": sum(value.nbytes for value in tensors.values())}, "weight_map": weight_map}
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _some(names: list[str]) -> str:
    return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")
