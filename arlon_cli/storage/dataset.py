"""Users' own videos: a folder with captions as CSV or JSON lines, or WebDataset shards."""

import csv
import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from arlon_cli.errors import ArlonError, InputError

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mkv", ".mov", ".webm", ".avi", ".mpg", ".mpeg", ".gif")
_TABLES, _SHARD = (".csv", ".jsonl"), ".tar"


@dataclass(frozen=True)
class Source:
    """A file of a data set: a video and its caption, where it has one, or a shard, which has its captions inside."""

    file: Path
    caption: str | None = None


@dataclass(frozen=True)
class Video:
    """A video to be read from `path`; `name` tells the user which it is."""

    name: str
    caption: str | None
    path: Path


def find_sources(data: Path) -> list[Source]:
    """The files of a data set: of a table of captions, of a shard, or of a folder of either, or of bare videos.

    A table has the columns (fields) `file`, relative to the table's folder, and `caption`. Raises InputError.
    """
    if data.is_dir():
        tables = sorted(file for file in data.iterdir() if file.suffix.lower() in _TABLES)
        if len(tables) > 1:
            raise InputError(f"{data} holds several tables of captions, such as {tables[0].name} and {tables[1].name}.")
        if tables:
            return _read_table(tables[0])
        files = sorted(file for file in data.rglob("*") if file.is_file())
        found = [file for file in files if file.suffix.lower() == _SHARD]
        found = found or [file for file in files if file.suffix.lower() in VIDEO_SUFFIXES]
        if not found:
            raise InputError(f"{data} holds no videos: no table of captions, no .tar shards, no {VIDEO_SUFFIXES[0]}.")
        return [Source(file) for file in found]
    if not data.is_file():
        raise InputError(f"There is no data at {data}.")
    if data.suffix.lower() == _SHARD:
        return [Source(data)]
    if data.suffix.lower() in _TABLES:
        return _read_table(data)
    raise InputError(f"{data} is neither a folder nor a .csv, .jsonl or .tar file.")


def videos_of(source: Source) -> Iterator[Video]:
    """The videos of a file, one at a time; those of a shard lie in a temporary file until the next is asked for.

    In a shard, the caption is the sample's `txt`, or `caption` in its `json`. Raises InputError for a shard that is
    damaged or has a file twice, and ArlonError where webdataset is not installed.
    """
    if source.file.suffix.lower() != _SHARD:
        yield Video(str(source.file), source.caption, source.file)
        return
    try:
        from webdataset.tariterators import group_by_keys, tar_file_expander
    except ImportError as error:
        raise ArlonError("Shards need webdataset; install it with `pip install 'arlon[train]'`.") from error
    try:
        with source.file.open("rb") as stream, TemporaryDirectory() as folder:
            for sample in group_by_keys(tar_file_expander([{"url": str(source.file), "stream": stream}])):
                for extension, content in sample.items():
                    suffix = f".{extension.rsplit('.', 1)[-1]}"
                    if suffix in VIDEO_SUFFIXES:
                        path = Path(folder) / f"video{suffix}"
                        path.write_bytes(content)
                        yield Video(f"{source.file}: {sample['__key__']}", _caption_of(sample), path)
                        break
    except (tarfile.TarError, EOFError) as error:
        raise InputError(f"{source.file} is no tar file, or is damaged or cut short.") from error
    except ValueError as error:
        raise InputError(f"{source.file} holds a file of the same name twice.") from error


def _caption_of(sample: dict[str, Any]) -> str | None:
    if "txt" in sample:
        return sample["txt"].decode("utf-8", errors="replace").strip()
    try:
        return str(json.loads(sample["json"])["caption"])
    except (KeyError, ValueError, TypeError):
        return None


def _read_table(table: Path) -> list[Source]:
    try:
        text = table.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{table} cannot be read as UTF-8 text.") from error
    rows = _csv_rows(text, table) if table.suffix.lower() == ".csv" else _json_rows(text, table)
    sources = []
    for line, row in rows:
        if None in row:
            raise InputError(f"{table}, line {line} has more fields than columns: put captions with commas in quotes.")
        if not all(isinstance(row.get(name), str) for name in ("file", "caption")):
            raise InputError(f"{table}, line {line}: every row needs `file` and `caption`.")
        name, caption = row["file"].strip(), row["caption"].strip()
        if not (_is_text(caption) and _is_text(name) and all(len(part.encode()) <= 255 for part in name.split("/"))):
            raise InputError(f"{table}, line {line}: {name[:60]!r} is no name of a file, or its caption is no text.")
        sources.append(Source(table.parent / name, caption))
    if not sources:
        raise InputError(f"{table} names no videos.")
    return sources


def _is_text(text: str) -> bool:
    """Whether a text can be written, as a name too."""
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:  # half of a pair, from \u escapes
        return False


def _csv_rows(text: str, table: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        if not {"file", "caption"} <= set(reader.fieldnames or ()):
            raise InputError(f"{table}: its first line is to name the columns, `file` and `caption` among them.")
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise InputError(f"{table}, line {reader.line_num + 1} is not CSV: {error}.") from error


def _json_rows(text: str, table: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.split("\n"), start=1):  # other ends of lines may stand in captions
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{table}, line {number} is not JSON: {error}.") from error
        yield number, row if isinstance(row, dict) else {}
