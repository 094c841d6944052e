"""Parts that others published, in the Hub's layout: a folder, or a snapshot in huggingface_hub's cache.

Reading never downloads anything; `download` is what `arlon models pull` does.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from arlon_cli.errors import ArlonError, CheckpointError, first_line

WEIGHTS = ("model.safetensors", "diffusion_pytorch_model.safetensors")
PICKLED_WEIGHTS = "pytorch_model.bin"  # of which a T5 may be made, where there is nothing better
_TOKENIZERS = ("tokenizer.json", "spiece.model")
_BLOCK, _NUM_BLOCKS = 1 << 16, 256


@dataclass(frozen=True)
class PublishedPart:
    """Where a part comes from: `source` is an id on the Hub, or a folder, which may be relative to the folder `base`.

    With `text`, it is a text encoder: it has a tokenizer too, and its weights may be pickled.
    """

    source: str
    base: Path
    text: bool

    @property
    def is_folder(self) -> bool:
        """Whether the source is a folder, or looks like one, and no id."""
        return self.source.startswith(("/", ".", "~")) or (self.base / self.source).is_dir()

    @property
    def folder(self) -> Path | None:
        """The folder on this machine, whole or not; None where there is none."""
        if self.is_folder:
            folder = self.base / Path(self.source).expanduser()
            return folder if folder.is_dir() else None
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError

        try:
            file = try_to_load_from_cache(self.source, "config.json")
        except HFValidationError as error:
            raise CheckpointError(f"{self.source} is neither a folder nor the id of a model on the Hub.") from error
        return Path(file).parent if isinstance(file, str) else None

    @property
    def is_whole(self) -> bool:
        """Whether all files are here. Raises CheckpointError where an index is damaged."""
        return bool(self.files())

    def files(self) -> list[Path]:
        """The files that are read, weights first; none where one of them is missing. Raises as `is_whole` does."""
        folder = self.folder
        if folder is None:
            return []
        others = [folder / "config.json"]
        if self.text:
            others += [file for file in (*folder.glob("*token*.json"), folder / "spiece.model") if file.is_file()]
            if not any((folder / name).is_file() for name in _TOKENIZERS):
                return []
        weights = weight_files(folder, (*WEIGHTS, PICKLED_WEIGHTS) if self.text else WEIGHTS)
        files = [*weights, *sorted(others)]
        return files if weights and all(file.is_file() for file in files) else []

    def wanted(self, names: Sequence[str]) -> list[str]:
        """Those of a repository's files that are to be fetched."""
        safe = [name for name in names if name.endswith(".safetensors") and "/" not in name]
        pickled = [name for name in names if name.startswith("pytorch_model") and name.endswith(".bin")]
        weights = safe or (pickled if self.text else [])
        others = [name for name in names if name.endswith(".json") and "/" not in name]
        return sorted({*weights, *others, *(["spiece.model"] if self.text and "spiece.model" in names else [])})


def weight_files(folder: Path, names: Sequence[str] = WEIGHTS) -> list[Path]:
    """The files of the first of `names` that a folder has: one, or those that its index names, there or not.

    Raises CheckpointError where the index is damaged.
    """
    for name in names:
        index = folder / f"{name}.index.json"
        if index.is_file():
            try:
                return [folder / file for file in dict.fromkeys(json.loads(index.read_bytes())["weight_map"].values())]
            except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
                raise CheckpointError(f"{index} is damaged: {error}.") from error
        if (folder / name).is_file():
            return [folder / name]
    return []


def fingerprint(file: Path) -> str:
    """A hash of a file's size and content; of a large one, of blocks at even distances, since its weights change all.

    Raises OSError.
    """
    size = file.stat().st_size
    total = hashlib.sha256(str(size).encode())
    with file.open("rb") as stream:
        if size <= _BLOCK * _NUM_BLOCKS:
            total.update(stream.read())
        else:
            for number in range(_NUM_BLOCKS):
                stream.seek(number * (size - _BLOCK) // (_NUM_BLOCKS - 1))
                total.update(stream.read(_BLOCK))
    return total.hexdigest()


@dataclass(frozen=True)
class Download:
    """Files of a repository on the Hub that a part needs, with their sizes in bytes."""

    source: str
    files: dict[str, int]

    @property
    def num_bytes(self) -> int:
        return sum(self.files.values())

    def run(self) -> Path:
        """Fetch what huggingface_hub's cache lacks, going on where a download stopped. Raises ArlonError."""
        from huggingface_hub import snapshot_download

        try:
            return Path(snapshot_download(self.source, allow_patterns=list(self.files)))
        except Exception as error:  # of the Hub's, of the connection's, of the disk's
            raise ArlonError(f"{self.source} could not be fetched: {first_line(error)} Run again to go on.") from error


def plan_download(part: PublishedPart) -> Download:
    """Ask the Hub what a part takes. Raises ArlonError where it cannot be asked, or has no weights that can be read."""
    from huggingface_hub import HfApi

    try:
        siblings = HfApi().model_info(part.source, files_metadata=True).siblings or []
    except Exception as error:
        raise ArlonError(f"{part.source} is not whole on this machine, and the Hub: {first_line(error)}") from error
    sizes = {file.rfilename: file.size or 0 for file in siblings}
    files = part.wanted(list(sizes))
    if not any(name.endswith((".safetensors", ".bin")) for name in files):
        raise ArlonError(f"{part.source} has no weights on the Hub that arlon reads.")
    return Download(part.source, {name: sizes[name] for name in files})


def cache_folder() -> Path:
    """Where huggingface_hub keeps what it fetches: set by HF_HUB_CACHE or HF_HOME."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)
