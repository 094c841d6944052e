"""What frozen parts make of users' videos, on disk: made once, found again by the content of a file and of the model.

Videos are cut into pieces, so that nothing grows with their length: `pixels` for the video VAE, `latents` for all other
parts, `codes` of latents, `text` of captions. `clips` say which pieces a video has, and `files` which videos a file of
the data set has, so that neither is read again.
"""

import dataclasses
import hashlib
import json
import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from arlon_cli.errors import ArlonError, InputError
from arlon_cli.models.latent_vqvae import LatentVQVAE
from arlon_cli.storage.dataset import Source, Video, videos_of
from arlon_cli.storage.store import Store, artifact_key
from arlon_cli.storage.video import probe, read_frames
from arlon_cli.training.loop import Interrupted
from arlon_cli.training.processes import Processes

_CODED_LATENTS = 16  # that the latent VQ-VAE encodes at once
_CAPTIONS = 8  # that the text encoder reads at once
_KEPT_BYTES = 1 << 30  # of what was read last, in memory

Size = tuple[int, int]
"""Height and width in pixels"""


@dataclass(frozen=True)
class Piece:
    """`length` consecutive frames, latents or codes of a video of `size`, stored under `key`."""

    key: str
    size: Size
    length: int
    caption: str | None


@dataclass(frozen=True)
class Encoding:
    """How frames become a piece: `encode` takes frames (T, H, W, 3) uint8 and gives a tensor whose axis `axis` is time.

    Pieces have `num_frames` frames, the last of a video fewer, a multiple of `unit`. `digest` is that of the model.
    """

    kind: str
    digest: str
    unit: int
    num_frames: int
    axis: int
    encode: Callable[[np.ndarray], Tensor]


@dataclass(frozen=True)
class Prepared:
    """Makes and reads artifacts in a store without a limit, its share where several processes do.

    `on_event` hears of what is skipped; after `stop()` turned true, Interrupted is raised.
    """

    store: Store
    fps: float
    sizes: Sequence[Size]
    processes: Processes
    on_event: Callable[[str], None]
    stop: Callable[[], bool]
    _recent: "_Recent" = field(default_factory=lambda: _Recent(), init=False, repr=False, compare=False)

    def pieces(self, sources: Sequence[Source], encoding: Encoding) -> list[Piece]:
        """The pieces of a data set. Videos that cannot be read, or are shorter than a unit, are reported and left out.

        Raises InputError where nothing is left.
        """
        files = list(dict.fromkeys(dataclasses.replace(source, caption=None) for source in sources))
        for source in files[self.processes.rank :: self.processes.count]:
            self._check_stop()
            found = self._listing(source, encoding)
            if found is None or found["skipped"]:
                self._list(source, encoding)
        self.processes.wait()
        pieces = []
        for source in sources:
            found = self._listing(source, encoding) or {"videos": []}
            for video in found["videos"]:
                caption = video["caption"] if source.caption is None else source.caption
                size = (video["size"][0], video["size"][1])
                pieces += [Piece(key, size, length, caption) for key, length in video["pieces"]]
        if not pieces:
            raise InputError("None of the videos can be used.")
        return pieces

    def codes(self, pieces: Iterable[Piece], digest: str, load: Callable[[], LatentVQVAE]) -> None:
        """Make the codes of pieces of latents, by the latent VQ-VAE of this digest, loaded where something is to do."""
        keys = {piece.key: codes_key(piece.key, digest) for piece in pieces}
        self._make("codes", keys, lambda vqvae, latents: self._encoded(vqvae, latents), load)

    def _encoded(self, vqvae: LatentVQVAE, keys: Sequence[str]) -> Iterable[dict[str, Tensor]]:
        device = vqvae.codebook.device
        for key in keys:
            latents = self.read("latents", key)["latents"].to(device, vqvae.codebook.dtype)[None]
            codes = torch.cat(list(vqvae.encode_stream(latents.split(_CODED_LATENTS, dim=2))), dim=1)
            yield {"codes": codes[0].to(torch.int32)}

    def texts(self, captions: Iterable[str], digest: str, load: Callable[[], Any]) -> None:
        """Make the features of captions, by the text encoder of this digest, loaded where something is to do."""
        keys = {caption: text_key(caption, digest) for caption in captions}
        self._make("text", keys, _text_features, load)

    def _make(
        self,
        kind: str,
        keys: dict[str, str],
        make: Callable[[Any, Sequence[str]], Iterable[dict[str, Tensor]]],
        load: Callable[[], Any],
    ) -> None:
        """Make the artifacts that the store lacks, by `make(model, some of them)`; the model is freed on return."""
        own = sorted(keys)[self.processes.rank :: self.processes.count]
        if missing := [name for name in own if not self.store.has(kind, keys[name])]:
            self.on_event(f"{kind}: {len(missing)} of {len(keys)} to make")
            model = load()
            for start in range(0, len(missing), _CAPTIONS):
                self._check_stop()
                names = missing[start : start + _CAPTIONS]
                with torch.inference_mode():
                    for name, tensors in zip(names, make(model, names), strict=True):
                        self.store.write(kind, keys[name], tensors)
        self.processes.wait()

    def read(self, kind: str, key: str) -> dict[str, Tensor]:
        """An artifact's tensors, on the CPU. Raises ArlonError where it is gone or damaged."""
        if (kept := self._recent.get(key)) is not None:
            return kept
        tensors = self.store.read(kind, key)
        if tensors is None:
            where = self.store.path(kind, key)
            raise ArlonError(f"{where} is gone or damaged; the same command makes it again and goes on.")
        self._recent.keep(key, tensors)
        return tensors

    def _listing(self, source: Source, encoding: Encoding) -> dict[str, Any] | None:
        """What is known of the videos of a file; None where it must be read, since it changed, or pieces are gone."""
        try:
            key = self._listing_key(source, encoding)
        except OSError:  # no such file: it has been reported
            return None
        stored = self.store.read("files", key)
        if stored is None:
            return None
        listing: dict[str, Any] = json.loads(bytes(stored["json"].tolist()))
        keys = (key for video in listing["videos"] for key, _ in video["pieces"])
        return listing if all(self.store.has(encoding.kind, key) for key in keys) else None

    def _listing_key(self, source: Source, encoding: Encoding) -> str:
        status = source.file.stat()
        return artifact_key(
            kind="files",
            file=str(source.file.resolve()),
            bytes=status.st_size,
            time=status.st_mtime_ns,
            **self._depends_on(encoding),
        )

    def _depends_on(self, encoding: Encoding) -> dict[str, Any]:
        return {
            "of": encoding.kind,
            "model": encoding.digest,
            "frames": encoding.num_frames,
            "fps": self.fps,
            "sizes": [list(size) for size in self.sizes],
        }

    def _list(self, source: Source, encoding: Encoding) -> None:
        """Read the videos of a file, make what they lack, and note what there is."""
        videos, skipped = [], []
        try:
            for video in videos_of(source):
                self._check_stop()
                try:
                    size, pieces = self._clip(video, encoding)
                    videos.append({"caption": video.caption, "size": size, "pieces": pieces})
                except InputError as error:
                    skipped.append(str(error).replace(str(video.path), video.name))
        except InputError as error:
            skipped.append(str(error))
        for reason in skipped:
            self.on_event(f"Skipped: {reason}")
        if source.file.is_file():
            content = json.dumps({"videos": videos, "skipped": skipped}).encode()
            key = self._listing_key(source, encoding)
            self.store.write("files", key, {"json": torch.frombuffer(bytearray(content), dtype=torch.uint8)})

    def _clip(self, video: Video, encoding: Encoding) -> tuple[Size, list[tuple[str, int]]]:
        """The size of a video and the keys and lengths of its pieces, which are made where the store lacks them."""
        info = probe(video.path)
        height, width = size = nearest_size(info.height, info.width, self.sizes)
        with video.path.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        clip = artifact_key(kind="clips", video=content, size=size, **self._depends_on(encoding))
        stored = self.store.read("clips", clip)
        if stored is not None:
            pieces = [(_piece_key(clip, i), length) for i, length in enumerate(stored["lengths"].tolist())]
            if all(self.store.has(encoding.kind, key) for key, _ in pieces):
                return size, pieces
        pieces = []
        frames = read_frames(video.path, width=width, height=height, fps=self.fps)
        while chunk := list(islice(frames, encoding.num_frames)):
            self._check_stop()
            if whole := len(chunk) // encoding.unit * encoding.unit:
                tensor = encoding.encode(np.stack(chunk[:whole]))
                pieces.append((_piece_key(clip, len(pieces)), tensor.shape[encoding.axis]))
                self.store.write(encoding.kind, pieces[-1][0], {encoding.kind: tensor})
        if not pieces:
            raise InputError(f"{video.name} is shorter than {encoding.unit} frames at {self.fps:g} a second.")
        self.store.write("clips", clip, {"lengths": torch.tensor([length for _, length in pieces])})
        return size, pieces

    def _check_stop(self) -> None:
        if self.stop():
            raise Interrupted


def codes_key(latents_key: str, digest: str) -> str:
    """Where the codes of latents stand, by the digest of the latent VQ-VAE."""
    return artifact_key(kind="codes", latents=latents_key, model=digest)


def text_key(caption: str, digest: str) -> str:
    """Where the features of a caption stand, by the digest of the text encoder."""
    return artifact_key(kind="text", caption=caption, model=digest)


def nearest_size(height: int, width: int, sizes: Sequence[Size]) -> Size:
    """Of sizes (height, width), the one most like a video's shape; of several, the largest that it fills."""

    def distance(size: Size) -> tuple[float, bool, float]:
        shape = abs(math.log(size[1] / size[0]) - math.log(width / height))
        area = size[0] * size[1] / (height * width)
        return round(shape, 3), area > 1, abs(math.log(area))

    return min(sizes, key=distance)


def _piece_key(clip: str, index: int) -> str:
    return artifact_key(kind="pieces", clip=clip, index=index)


def _text_features(text_encoder: Any, captions: Sequence[str]) -> Iterable[dict[str, Tensor]]:
    """Features (l, C) of the tokens that each caption has."""
    text, mask = text_encoder.encode(list(captions))
    return [{"text": features[own]} for features, own in zip(text, mask, strict=True)]


class _Recent:
    """The artifacts that were read last, about `_KEPT_BYTES` of them."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, dict[str, Tensor]] = OrderedDict()
        self._num_bytes = 0

    def get(self, key: str) -> dict[str, Tensor] | None:
        if key in self._kept:
            self._kept.move_to_end(key)
        return self._kept.get(key)

    def keep(self, key: str, tensors: dict[str, Tensor]) -> None:
        self._kept[key] = tensors
        self._num_bytes += _num_bytes(tensors)
        while self._num_bytes > _KEPT_BYTES:
            self._num_bytes -= _num_bytes(self._kept.popitem(last=False)[1])


def _num_bytes(tensors: dict[str, Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors.values())
