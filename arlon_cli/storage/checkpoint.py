"""Checkpoints: a folder with `config.json` and, per part, safetensors in shards that any host of code accepts.

Where the configuration names published parts, those come from there, and the folder holds the parts of ARLON alone.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from tokenizers import Tokenizer
from torch import Tensor, nn

from arlon_cli.config import ModelConfig, OpenSoraVAEConfig, PublishedT5Config, SamplingConfig, SemanticInjectionConfig
from arlon_cli.errors import CheckpointError
from arlon_cli.models.blank import blank
from arlon_cli.storage.published import PublishedPart, fingerprint, weight_files
from arlon_cli.storage.weights import read_config, weights_folders

PARTS = ("text_encoder", "video_vae", "latent_vqvae", "latent_vqvae_coarse", "ar", "ranker", "dit", "classifier")
SHARD_BYTES = 15_000_000
ADAPTERS = ("injection.", "linear_estimate.")  # how tensors of the DiT begin that are not the backbone's
_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


def save_checkpoint(folder: Path, config: ModelConfig, parts: dict[str, nn.Module], dtype: torch.dtype) -> None:
    """Write `config` and `parts` as the checkpoint `folder`, which appears whole or not at all.

    Matrices are kept in `dtype`, vectors (biases, norms, statistics) as they are; of a DiT around a published backbone,
    the adapters alone. Raises CheckpointError where `folder` holds something that is no checkpoint, or a part has no
    name of `PARTS`, or is published; OSError where it cannot be written.
    """
    published = () if config.published is None else ("text_encoder", "video_vae")
    if unknown := parts.keys() - set(PARTS).difference(published):
        names = ", ".join(part for part in PARTS if part not in published)
        raise CheckpointError(f"A checkpoint of {config.name} has no part {', '.join(sorted(unknown))}, only {names}.")
    _check_place(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _new_folder(folder) as temporary:
        (temporary / "config.json").write_text(config.to_json(), encoding="utf-8")
        for name, module in parts.items():
            _save_tensors(temporary / name, _stored(config, name, module.state_dict(), dtype))
            if name == "text_encoder":
                tokenizer: Tokenizer = module.tokenizer  # type: ignore[assignment]
                (temporary / name / "tokenizer.json").write_text(tokenizer.to_str(pretty=True), encoding="utf-8")
            if name == "classifier":
                (temporary / name / "attributes.json").write_text(json.dumps(module.attributes), encoding="utf-8")


def replace_part(
    folder: Path,
    source: "Checkpoint",
    part: str,
    tensors: dict[str, Tensor],
    dtype: torch.dtype,
    injection: SemanticInjectionConfig | None = None,
    sampling: SamplingConfig | None = None,
) -> None:
    """Write the checkpoint `folder`, which is `source` but for a part, of which it holds the `tensors`.

    `injection` and `sampling` are the new part's where they are not those of `source`. Without the codes that it learnt
    to read, a ranker is left out.

    Files of the other parts are linked where the file system can do that, else copied; folders of published parts are
    named by absolute paths. `folder` appears whole or not at all, matrices in `dtype`. Raises CheckpointError where it
    holds something that is no checkpoint, or is `source`; OSError where it cannot be written.
    """
    if folder.resolve() == source.folder.resolve():
        raise CheckpointError(f"{folder} is the checkpoint that training starts from; name another folder.")
    _check_place(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _new_folder(folder) as temporary:
        config = _elsewhere(source)
        left_out = {part, "config.json"}
        if part in ("video_vae", "latent_vqvae"):
            config = replace(config, ranker=None)
            left_out.add("ranker")
        for file in source.files():
            place = file.relative_to(source.folder)
            if place.parts[0] not in left_out:
                (temporary / place).parent.mkdir(parents=True, exist_ok=True)
                _link(file, temporary / place)
        config = replace(config, injection=injection or config.injection, sampling=sampling or config.sampling)
        (temporary / "config.json").write_text(config.to_json(), encoding="utf-8")
        _save_tensors(temporary / part, _stored(source.config, part, tensors, dtype))


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """A folder to be written, which takes the place of `folder` when the block ends without an error.

    What was there goes last: until the new one is in its place, it is only set aside, and comes back if that fails.
    """
    folder = folder.resolve()
    temporary, aside = (folder.with_name(f".{folder.name}.{os.getpid()}.{end}") for end in ("tmp", "old"))
    try:
        temporary.mkdir()
        yield temporary
        if folder.exists():
            folder.replace(aside)
        temporary.replace(folder)
        shutil.rmtree(aside, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if aside.exists() and not folder.exists():
            aside.replace(folder)


def _check_place(folder: Path) -> None:
    if folder.exists() and not (folder / "config.json").exists() and (folder.is_file() or any(folder.iterdir())):
        raise CheckpointError(f"{folder} holds other files; save the checkpoint in a new folder.")


def _elsewhere(source: "Checkpoint") -> ModelConfig:
    """The configuration of a checkpoint in another folder: published parts in folders are found from there, too."""
    config = source.config
    if config.published is None:
        return config
    folders = {part: found.folder for part, found in source.published.items() if found.is_folder}
    places = {part: str(folder.resolve()) for part, folder in folders.items() if folder is not None}
    return replace(config, published=replace(config.published, **places))


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _link(file: Path, place: Path) -> None:
    try:
        place.hardlink_to(file.resolve())
    except OSError:  # another file system, or one without links
        try:
            shutil.copy2(file, place)
        except OSError as error:  # which would name the file that is copied
            raise OSError(error.errno, error.strerror, str(place)) from error


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
    def published(self) -> dict[str, PublishedPart]:
        """The parts of `PARTS` that others published, `dit` standing for its backbone."""
        found = self.config.published
        sources = {} if found is None else asdict(found)
        return {part: PublishedPart(source, self.folder, part == "text_encoder") for part, source in sources.items()}

    def has(self, part: str) -> bool:
        """Whether the folder itself holds a part of `PARTS`, or `injection`, the DiT's adapters."""
        return bool(weight_files(self.folder / ("dit" if part == "injection" else part)))

    def check(self, *parts: str) -> None:
        """Raises CheckpointError where published parts are to be fetched, or parts of ARLON around them to be trained.

        Of parts whose files are damaged, only loading tells.
        """
        if not self.published:
            return
        name = self.config.name
        known = name if self.folder.parent in weights_folders() else str(self.folder)
        away = [self.published[part].source for part in parts if part in self.published and not self._is_here(part)]
        if away:
            raise CheckpointError(
                f"{known} is made of published weights, and this machine has no whole copy of {' and '.join(away)}. "
                f"`arlon models pull {known}` says how large they are, and fetches them."
            )
        if untrained := [part for part in parts if part not in self.published and not self.has(part)]:
            raise CheckpointError(
                f"{known} has Open-Sora's parts, but ARLON's are missing ({', '.join(untrained)}): `--no-ar` "
                "renders without them, Open-Sora's own long video whose segments overlap. "
                "Nobody published such parts: train yours with `arlon train vqvae`, `vqvae --coarse`, `ar` and `dit`, "
                f"the first with `--model {known}`, each next one with the checkpoint that the last one made."
            )

    def _is_here(self, part: str) -> bool:
        source = self.published[part]
        whole = source.is_whole
        if source.is_folder and not whole:
            raise CheckpointError(
                f"{source.source}, which is to hold the {part} of {self.folder}, "
                f"{'lacks files' if source.folder else 'is not there'}."
            )
        return whole

    @cached_property
    def digest(self) -> str:
        """SHA-256, in hexadecimal, over the names and hashes of all files; of published ones, over fingerprints."""
        total = hashlib.sha256()
        for line in self._hashes():
            total.update(line.encode())
        return total.hexdigest()

    def part_digest(self, part: str) -> str:
        """SHA-256, in hexadecimal, over a part's configuration, and its files as in `digest`.

        `part` is one that the configuration describes; to the DiT's belongs that of its injection.
        """
        stated = asdict(getattr(self.config, part))
        if part == "dit":
            stated["injection"] = asdict(self.config.injection)
        total = hashlib.sha256(json.dumps(stated, sort_keys=True).encode())
        for line in self._hashes(part):
            total.update(line.encode())
        return total.hexdigest()

    def _hashes(self, only: str | None = None) -> Iterator[str]:
        """Name and hash of each file, of one part or of all."""
        for part, source in self.published.items():
            if only in (None, part):
                for file in source.files():
                    yield f"{part}/{file.name} {fingerprint(file)}\n"
        files = [file for file in self.files() if only in (None, file.relative_to(self.folder).parts[0])]
        with ThreadPoolExecutor() as pool:  # hashing lets other threads run
            for file, digest in zip(files, pool.map(_sha256, files), strict=True):
                yield f"{file.relative_to(self.folder).as_posix()} {digest}\n"

    @property
    def num_bytes(self) -> int:
        """Size of all files, published ones included."""
        files = [*self.files(), *(file for source in self.published.values() for file in source.files())]
        return sum(file.stat().st_size for file in files)

    def load(self, part: str, device: torch.device | str, dtype: torch.dtype) -> nn.Module:
        """A part of `PARTS`, for inference; a DiT without adapters where these are not trained yet.

        Raises CheckpointError that names a tensor that is missing, extra, misshapen or of a strange type.
        """
        if part in self.published:
            self.check(part)
        if isinstance(self.config.text_encoder, PublishedT5Config) and part == "text_encoder":
            return self._load_published_t5(device, dtype)
        with blank():
            module = self._build(part)
        tensors = self.tensors(part)
        expected = module.state_dict()
        where = f"{part} of {self.published[part].source if part in self.published else self.folder}"
        if missing := [name for name in expected if name not in tensors]:
            raise CheckpointError(f"{where} lacks the tensor {_some(missing)}.")
        if extra := [name for name in tensors if name not in expected]:
            raise CheckpointError(f"{where} has the tensor {_some(extra)}, which the model does not know.")
        for name, value in tensors.items():
            if value.shape != expected[name].shape:
                shapes = f"{tuple(value.shape)} instead of {tuple(expected[name].shape)}"
                raise CheckpointError(f"{where}: the tensor {name} has shape {shapes}.")
            if value.dtype not in _DTYPES:
                kind = str(value.dtype).removeprefix("torch.")
                raise CheckpointError(
                    f"{where}: the tensor {name} is of type {kind}, which is no float of 16 bits or more."
                )
        placed = {name: value.to(device, dtype) for name, value in tensors.items()}
        module.load_state_dict(placed, strict=True, assign=True)
        return module.eval().requires_grad_(False)

    def tensors(self, part: str) -> dict[str, Tensor]:
        """The tensors of a part as stored, on the CPU. Raises CheckpointError for a file that is missing or damaged."""
        if part not in self.published:
            return _read_tensors(self.folder / part)
        folder = self.published[part].folder
        tensors = {} if folder is None else _read_tensors(folder)
        if part == "dit" and self.has("injection"):
            adapters = _read_tensors(self.folder / part)
            if strange := [name for name in adapters if not name.startswith(ADAPTERS)]:
                raise CheckpointError(f"dit of {self.folder} has the tensor {_some(strange)}, which is no adapter's.")
            tensors |= adapters
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
        """All that belongs to the checkpoint but published parts, in the order of the names."""
        found = {file for file in self.folder.rglob("*") if file.suffix in (".json", ".safetensors")}
        return sorted(found.difference(*(source.files() for source in self.published.values())))

    def _load_published_t5(self, device: torch.device | str, dtype: torch.dtype) -> nn.Module:
        from arlon_cli.models.published_t5 import PublishedT5

        folder = self.published["text_encoder"].folder
        assert isinstance(self.config.text_encoder, PublishedT5Config)
        assert folder is not None
        return PublishedT5(self.config.text_encoder, folder, device, dtype)

    def _build(self, part: str) -> nn.Module:
        config = self.config
        if part == "text_encoder":
            from arlon_cli.models.text_encoder import TextEncoder

            assert not isinstance(config.text_encoder, PublishedT5Config)
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
        if part == "ranker" and config.ranker is not None:
            from arlon_cli.models.draft_ranker import DraftRanker

            return DraftRanker(config.ranker)
        if part == "dit":
            from arlon_cli.models.stdit import STDiT3

            untrained = "dit" in self.published and not self.has("injection")
            return STDiT3(config.dit, None if untrained else config.injection)
        if part == "classifier":
            from arlon_cli.models.attribute_classifier import AttributeClassifier

            return AttributeClassifier(self.attributes())
        raise CheckpointError(f"A checkpoint has no part {part}; its parts: {', '.join(PARTS)}.")


def _read_tensors(folder: Path) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for file in weight_files(folder) or [folder / WEIGHTS]:
        if not file.is_file():
            raise CheckpointError(f"The checkpoint lacks the file {file}.")
        try:
            tensors |= load_file(file)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{file} is damaged: {error}.") from error
    return tensors


def _stored(config: ModelConfig, part: str, tensors: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """What a checkpoint holds of a part's tensors, on the CPU."""
    adapters_only = part == "dit" and config.published is not None
    stored = {}
    for name, value in tensors.items():
        if adapters_only and not name.startswith(ADAPTERS):
            continue
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
        _save_file(tensors, folder / WEIGHTS)
        return
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        _save_file(shard, folder / file)
        weight_map |= dict.fromkeys(shard, file)
    index = {"metadata": {"total_size": sum(value.nbytes for value in tensors.values())}, "weight_map": weight_map}
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _save_file(tensors: dict[str, Tensor], file: Path) -> None:
    file.write_bytes(save(tensors, metadata={"format": "pt"}))  # save_file would keep others from reading it


def _some(names: list[str]) -> str:
    return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")
