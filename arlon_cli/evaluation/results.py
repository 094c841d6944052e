"""What a long evaluation has found so far, in a folder: run again, it does only what is missing."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from arlon_cli.errors import ArlonError
from arlon_cli.storage.partial import partial_file, write_whole
from arlon_cli.storage.store import artifact_key

_ROWS, _FEATURES, _PICTURE = "rows.jsonl", ".npy", ".png"


@dataclass(frozen=True)
class Finding:
    """What was worked out: `values` as JSON holds them, and perhaps features (n, D) and a picture, a PNG."""

    values: dict[str, Any]
    features: np.ndarray | None = None
    picture: bytes | None = None


@dataclass(frozen=True)
class Row:
    """A finding on disk: `key` says of what; its files are `stem` with the `endings`."""

    key: dict[str, Any]
    values: dict[str, Any]
    endings: tuple[str, ...] = field(repr=False)
    stem: Path = field(repr=False)

    @property
    def features(self) -> np.ndarray:
        """The features (n, D) of a finding that had them."""
        return np.load(self.stem.with_suffix(_FEATURES)).astype(np.float32)

    @property
    def picture(self) -> bytes | None:
        """The PNG, None where there was none."""
        return self.stem.with_suffix(_PICTURE).read_bytes() if _PICTURE in self.endings else None


class Results:
    """Rows in `folder`, as lines of rows.jsonl. Raises ArlonError where the folder cannot be used."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._rows: dict[str, Row] = {}
        try:
            (folder / "files").mkdir(parents=True, exist_ok=True)
            text = (folder / _ROWS).read_text(encoding="utf-8") if (folder / _ROWS).exists() else ""
        except (OSError, UnicodeDecodeError) as error:
            raise ArlonError(f"Could not use {folder} for results: {error}.") from error
        self._unfinished = bool(text) and not text.endswith("\n")  # a line that a kill cut short
        for line in text.splitlines():
            try:
                data = json.loads(line)
                row = Row(data["key"], data["values"], tuple(data["files"]), self._stem(data["key"]))
            except (ValueError, KeyError, TypeError):
                continue
            if all(row.stem.with_suffix(ending).is_file() for ending in row.endings):
                self._rows[row.stem.name] = row

    def row(self, key: dict[str, Any], work: Callable[[], Finding]) -> Row:
        """The row with this key, as found before, or else worked out now and written at once. Raises ArlonError."""
        stem = self._stem(key)
        if stem.name not in self._rows:
            found = work()
            try:
                self._rows[stem.name] = self._write(key, stem, found)
            except OSError as error:
                raise ArlonError(f"Could not write to {self.folder}: {error.strerror or error}.") from error
        return self._rows[stem.name]

    def has(self, key: dict[str, Any]) -> bool:
        """Whether there is a row with this key."""
        return self._stem(key).name in self._rows

    def _stem(self, key: dict[str, Any]) -> Path:
        return self.folder / "files" / artifact_key(**key)

    def _write(self, key: dict[str, Any], stem: Path, found: Finding) -> Row:
        """The files first, then the line that names them."""
        endings: list[str] = []
        if found.features is not None:
            endings.append(_FEATURES)
            with partial_file(stem.with_suffix(_FEATURES)) as temporary, temporary.open("wb") as stream:
                np.save(stream, found.features.astype(np.float16))
                temporary.replace(stem.with_suffix(_FEATURES))
        if found.picture is not None:
            endings.append(_PICTURE)
            write_whole(stem.with_suffix(_PICTURE), found.picture)
        line = json.dumps({"key": key, "values": found.values, "files": endings}, ensure_ascii=False)
        with (self.folder / _ROWS).open("a", encoding="utf-8") as stream:
            stream.write(("\n" if self._unfinished else "") + line + "\n")
        self._unfinished = False
        return Row(key, json.loads(line)["values"], tuple(endings), stem)
