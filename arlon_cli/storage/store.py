"""The store: what runs have computed, by the hash of everything it depends on, so that no run computes it twice."""

import hashlib
import json
import os
import re
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import platformdirs
from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from arlon_cli.errors import ArlonError, InputError

KINDS = ("codes", "latents")
DEFAULT_LIMIT = "10GB"
_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_LAST_RESULT = "last_result.txt"
_STALE_SECONDS = 24 * 3600.0


def artifact_key(**depends_on: Any) -> str:
    """The key of an artifact: a hash of everything that it depends on, given as JSON values."""
    text = json.dumps(depends_on, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:40]


@dataclass(frozen=True)
class Store:
    """Artifacts of `KINDS` under `folder`, together at most about `limit` bytes.

    Files appear whole, by renaming; processes may share a store. A read counts as use, and beyond the limit the least
    recently used files go.
    """

    folder: Path
    limit: int

    @classmethod
    def from_environment(cls) -> Self:
        """The user's store: `ARLON_CACHE_DIR` and `ARLON_CACHE_SIZE` (as 500MB), or the platform's folder and 10 GB.

        Raises InputError for a size that is none.
        """
        folder = os.environ.get("ARLON_CACHE_DIR") or platformdirs.user_cache_dir("arlon", appauthor=False)
        return cls(Path(folder).expanduser(), parse_size(os.environ.get("ARLON_CACHE_SIZE") or DEFAULT_LIMIT))

    def path(self, kind: str, key: str) -> Path:
        """Where an artifact is, or would be."""
        return self.folder / kind / key[:2] / f"{key}.safetensors"

    def read(self, kind: str, key: str) -> dict[str, Tensor] | None:
        """The tensors of an artifact, on the CPU; None where the store has none that can be read."""
        path = self.path(kind, key)
        try:
            tensors = load_file(path)
            os.utime(path)
        except FileNotFoundError:
            return None
        except (SafetensorError, OSError):
            path.unlink(missing_ok=True)
            return None
        return tensors

    def write(self, kind: str, key: str, tensors: dict[str, Tensor]) -> None:
        """Put an artifact into the store. Raises ArlonError where it cannot be written."""
        path = self.path(kind, key)
        temporary = path.with_name(f".{key}.{uuid.uuid4().hex}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                save_file({name: value.contiguous().cpu() for name, value in tensors.items()}, temporary)
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
        except (OSError, SafetensorError) as error:
            raise ArlonError(
                f"Could not write to the store at {self.folder} ({error}); "
                "make room, or set ARLON_CACHE_DIR to another folder."
            ) from error
        self.evict(keep=path)

    def artifacts(self) -> Iterator[tuple[str, Path, os.stat_result]]:
        """Kind, path and status of every artifact."""
        for kind in KINDS:
            for path in (self.folder / kind).glob("*/*.safetensors"):
                try:
                    yield kind, path, path.stat()
                except FileNotFoundError:  # another process was faster
                    continue

    def remember_result(self, path: Path) -> None:
        """Note the newest result of any command, for `extend --last`; where that cannot be written, nothing is lost."""
        note = self.folder / _LAST_RESULT
        temporary = note.with_name(f".{uuid.uuid4().hex}.tmp")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            temporary.write_text(str(path.absolute()), encoding="utf-8")
            temporary.replace(note)
        except OSError:
            temporary.unlink(missing_ok=True)

    def last_result(self) -> Path:
        """The newest result that was noted. Raises InputError where there is none, or it is gone."""
        try:
            path = Path((self.folder / _LAST_RESULT).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise InputError("There is no newest result yet; name a video.") from error
        if not path.is_file():
            raise InputError(f"The newest result, {path}, is no longer there; name a video.")
        return path

    def evict(self, keep: Path | None = None, limit: int | None = None) -> int:
        """Remove the least recently used artifacts until the rest fits; returns how many bytes went.

        `keep` is never removed. What writers that were killed left behind goes after a day.
        """
        limit = self.limit if limit is None else limit
        if sum(status.st_size for _, _, status in self.artifacts()) <= limit:
            return 0
        removed = 0
        with FileLock(self.folder / "evict.lock"):
            self._remove_stale()
            found = sorted((status.st_mtime, path, status.st_size) for _, path, status in self.artifacts())
            total = sum(size for _, _, size in found)
            for _, path, size in found:
                if total - removed <= limit:
                    break
                if path != keep:
                    path.unlink(missing_ok=True)
                    removed += size
        return removed

    def _remove_stale(self) -> None:
        for path in self.folder.glob("*/*/.*.tmp"):
            try:
                if time.time() - path.stat().st_mtime > _STALE_SECONDS:
                    path.unlink(missing_ok=True)
            except FileNotFoundError:
                continue


def parse_size(text: str) -> int:
    """Bytes of a size such as `500MB`, `1.5 GB` or `1000`. Raises InputError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?B?)", text.strip().upper())
    if match is None:
        raise InputError(f"{text!r} is no size; write it like 500MB or 10GB.")
    unit = match[2].rstrip("B")
    return int(float(match[1]) * _UNITS[f"{unit}B" if unit else ""])
