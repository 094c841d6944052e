import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from arlon_cli.config import ModelConfig
from arlon_cli.errors import ArlonError, InputError
from arlon_cli.storage.codes import CodesRecord, check_codes, read_codes, write_codes

RECORD = CodesRecord("tiny", "abc", 32, 32, 24, 20, "clip 火.mp4")
CODES = torch.arange(12).view(3, 2, 2)


def test_what_was_written_is_read(tmp_path: Path, tiny_config: ModelConfig) -> None:
    path = tmp_path / "clip.safetensors"
    write_codes(path, CODES, RECORD)
    codes, record = read_codes(path)
    assert torch.equal(codes, CODES)
    assert record == RECORD
    assert list(tmp_path.iterdir()) == [path]
    check_codes(path, codes, record, tiny_config, "abc")


@pytest.mark.parametrize(
    ("codes", "record", "message"),
    [
        (CODES, replace(RECORD, model_digest="other"), "codes of the model tiny other, not of tiny abc"),
        (CODES, replace(RECORD, num_frames=25), "25 frames"),
        (CODES, replace(RECORD, num_frames=0), "0 frames"),
        (CODES, replace(RECORD, width=64), "damaged"),
        (CODES.view(3, 1, 4), RECORD, "damaged"),
        (CODES + 5, RECORD, "has not"),
        (CODES - 1, RECORD, "has not"),
    ],
)
def test_codes_of_another_model_are_refused(
    tmp_path: Path, tiny_config: ModelConfig, codes: torch.Tensor, record: CodesRecord, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        check_codes(tmp_path / "clip.safetensors", codes, record, tiny_config, "abc")


def test_what_is_no_codes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "clip.safetensors"
    with pytest.raises(InputError, match="no file"):
        read_codes(path)
    for content in (b"", b"Dear", b"\x80\x04pickle"):
        path.write_bytes(content)
        with pytest.raises(InputError, match="holds no codes"):
            read_codes(path)
    write_codes(path, CODES, RECORD)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(InputError, match="holds no codes"):
        read_codes(path)
    wrong = json.dumps({**asdict(RECORD), "num_frames": "20"})
    for metadata in (None, *({"arlon": text} for text in ("[]", "{}", "7", "[" * 20_000, wrong))):
        save_file({"codes": CODES.int()}, path, metadata=metadata)
        with pytest.raises(InputError, match="not made by `arlon encode`"):
            read_codes(path)


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ArlonError, match="Could not write"):
        write_codes(tmp_path / "nowhere" / "clip.safetensors", CODES, RECORD)
