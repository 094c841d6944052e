"""The store: what runs have computed, by the hash of everything it depends on, so that no run computes it twice."""

import hashlib
import json
import math
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import platformdirs
import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from arlon_cli.errors import ArlonError, InputError
from arlon_cli.storage.partial import remove_leftovers, write_whole

KINDS = ("codes", "latents", "texts", "timings")
DEFAULT_LIMIT = "10GB"
_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_LAST_RESULT = "last_result.txt"
_SPARE = 0.01  # of the limit, that is kept free where files must go


def artifact_key(**depends_on: Any) -> str:
    """The key of an artifact: a hash of everything that it depends on, given as JSON values."""
    text = json.dumps(depends_on, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:40]


@dataclass(frozen=True)
class Store:
    """Artifacts of `KINDS` under `folder`, together at most about `limit` bytes; of other kinds too without a limit.

    Files appear whole, by renaming; processes may share a store. A read counts as use, and beyond the limit the least
    recently used files go.
    """

    folder: Path
    limit: float  # math.inf: none
    _room: list[float] = field(default_factory=lambda: [0.0], init=False, repr=False, compare=False)
    """Bytes that may be written before all files are counted again, which takes long where there are many"""

    @classmethod
    def from_environment(cls) -> Self:
        """The user's store: `ARLON_CACHE_DIR` and `ARLON_CACHE_SIZE` (as 500MB), or the platform's folder and 10 GB.

        Raises InputError for a size that is none, or a folder that cannot be.
        """
        folder = os.environ.get("ARLON_CACHE_DIR") or platformdirs.user_cache_dir("arlon", appauthor=False)
        try:
            place = Path(folder).expanduser()
        except RuntimeError as error:
            raise InputError(f"ARLON_CACHE_DIR is {folder}, of which nobody knows whose home it is.") from error
        return cls(place, parse_size(os.environ.get("ARLON_CACHE_SIZE") or DEFAULT_LIMIT))

    def path(self, kind: str, key: str) -> Path:
        """Where an artifact is, or would be."""
        return self.folder / kind / key[:2] / f"{key}.safetensors"

    def has(self, kind: str, key: str) -> bool:
        """Whether there is an artifact, damaged or not."""
        return self.path(kind, key).is_file()

    def read(self, kind: str, key: str) -> dict[str, Tensor] | None:
        """The tensors of an artifact, on the CPU; None where the store has none, or one that is damaged."""
        if not key.isalnum():  # from a video that anybody may have made, it could lead to any file, to be removed
            return None
        path = self.path(kind, key)
        try:
            with safe_open(path, framework="pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
                intact = (file.metadata() or {}).get("sha256") == _digest(key, tensors)
        except FileNotFoundError:
            return None
        except (SafetensorError, OSError):
            intact = False
        with suppress(OSError):  # a store that may only be read
            if intact:
                os.utime(path)
            else:
                path.unlink(missing_ok=True)
        return tensors if intact else None

    def write(self, kind: str, key: str, tensors: dict[str, Tensor]) -> None:
        """Put an artifact into the store. Raises ArlonError where it cannot be written."""
        path = self.path(kind, key)
        tensors = {name: value.contiguous().cpu() for name, value in tensors.items()}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            content = save(tensors, metadata={"sha256": _digest(key, tensors)})
            write_whole(path, content)
        except OSError as error:
            raise ArlonError(
                f"Could not write to the store at {self.folder} ({error.strerror or error}); "
                "make room, or set ARLON_CACHE_DIR to another folder."
            ) from error
        self._room[0] -= len(content)
        if self._room[0] < 0:
            self.evict(keep=path, spare=_SPARE * self.limit)

    def artifacts(self) -> Iterator[tuple[str, Path, os.stat_result]]:
        """Kind, path and status of every artifact."""
        for kind in KINDS:
            for path in (self.folder / kind).glob("*/[!.]*.safetensors"):  # hidden are files that are being written
                try:
                    yield kind, path, path.stat()
                except FileNotFoundError:  # another process was faster
                    continue

    def remember_result(self, path: Path) -> None:
        """Note the newest rendered video, for `extend --last`; where that cannot be written, nothing is lost."""
        with suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            write_whole(self.folder / _LAST_RESULT, os.fsencode(path.absolute()))

    def last_result(self) -> Path:
        """The newest result that was noted. Raises InputError where there is none, or it is gone."""
        try:
            path = Path(os.fsdecode((self.folder / _LAST_RESULT).read_bytes()))
        except OSError as error:
            raise InputError("There is no newest result yet; name a video.") from error
        if not path.is_file():
            raise InputError(f"The newest result, {path}, is no longer there; name a video.")
        return path

    def evict(self, keep: Path | None = None, limit: float | None = None, spare: float = 0.0) -> int:
        """Remove the least recently used artifacts until the rest fits, then `spare` bytes more; returns how many went.

        `keep` is never removed.
        """
        limit = self.limit if limit is None else limit
        if limit == math.inf:
            return 0
        total = sum(status.st_size for _, _, status in self.artifacts())
        removed = self._remove_oldest(limit - spare, keep) if total > limit else 0
        self._room[0] = min(limit - total + removed, _SPARE * self.limit)
        return removed

    def _remove_oldest(self, limit: float, keep: Path | None) -> int:
        removed = 0
        with FileLock(self.folder / "evict.lock"):
            for folder in self.folder.glob("*/*/"):
                remove_leftovers(folder)
            found = sorted((status.st_mtime, path, status.st_size) for _, path, status in self.artifacts())
            total = sum(size for _, _, size in found)
            for _, path, size in found:
                if total - removed <= limit:
                    break
                if path != keep:
                    path.unlink(missing_ok=True)
                    removed += size
        return removed


def _digest(key: str, tensors: dict[str, Tensor]) -> str:
    """A hash of an artifact's key and of names, dtypes, shapes and values, to tell damage by."""
    total = hashlib.sha256(key.encode())
    for name, value in sorted(tensors.items()):
        total.update(f"{name} {value.dtype} {tuple(value.shape)} ".encode())
        total.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def parse_size(text: str) -> int:
    """Bytes of a size such as `500MB`, `1.5 GB` or `1000`. Raises InputError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?B?)", text.strip().upper())
    if match is None:
        raise InputError(f"{text!r} is no size; write it like 500MB or 10GB.")
    unit = match[2].rstrip("B")
    size = float(match[1]) * _UNITS[f"{unit}B" if unit else ""]
    if math.isinf(size):
        raise InputError(f"{text[:20]!r}... is more than can be counted.")
    return int(size)
