import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from arlon_cli.config import ModelConfig
from arlon_cli.errors import CheckpointError
from arlon_cli.storage import checkpoint as checkpoint_module
from arlon_cli.storage.checkpoint import INDEX, PARTS, WEIGHTS, Checkpoint, save_checkpoint

Modules = dict[str, nn.Module]


@pytest.fixture
def copy(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "copy"))


def edit(file: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)


@pytest.mark.parametrize("part", PARTS)
def test_loads_what_was_saved(
    tiny_checkpoint: Path, part: str, tiny_config: ModelConfig, tiny_modules: Modules
) -> None:
    checkpoint = Checkpoint(tiny_checkpoint)
    saved = tiny_modules[part].state_dict()
    loaded = checkpoint.load(part, "cpu", torch.float32)
    assert checkpoint.config == tiny_config
    assert loaded.state_dict().keys() == saved.keys()
    for name, value in loaded.state_dict().items():
        torch.testing.assert_close(value, saved[name], rtol=0, atol=0)
    assert not loaded.training
    assert not any(tensor.is_meta for tensor in (*loaded.parameters(), *loaded.buffers()))


def test_tokenizer_survives(tiny_checkpoint: Path) -> None:
    encoder = Checkpoint(tiny_checkpoint).load("text_encoder", "cpu", torch.float32)
    assert encoder.unknown_words("a red dragon") == ["dragon"]  # type: ignore[operator]


def test_shards_hold_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_config: ModelConfig, tiny_modules: Modules
) -> None:
    monkeypatch.setattr(checkpoint_module, "SHARD_BYTES", 4000)
    parts = tiny_modules
    save_checkpoint(tmp_path / "sharded", tiny_config, parts, torch.float32)
    folder = tmp_path / "sharded" / "dit"
    index = json.loads((folder / INDEX).read_text())
    assert index["weight_map"].keys() == parts["dit"].state_dict().keys()
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    loaded = Checkpoint(tmp_path / "sharded").load("dit", "cpu", torch.float32).state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in parts["dit"].state_dict().items())


def test_half_precision_keeps_vectors(tmp_path: Path, tiny_config: ModelConfig, tiny_modules: Modules) -> None:
    save_checkpoint(tmp_path / "half", tiny_config, tiny_modules, torch.bfloat16)
    stored = load_file(tmp_path / "half" / "video_vae" / WEIGHTS)
    assert stored["scale"].dtype == torch.float32
    assert {value.dtype for value in stored.values() if value.ndim > 1} == {torch.bfloat16}
    module = Checkpoint(tmp_path / "half").load("video_vae", "cpu", torch.float32)
    assert {value.dtype for value in module.state_dict().values()} == {torch.float32}


def test_digest_follows_the_content(tiny_checkpoint: Path, copy: Path) -> None:
    assert Checkpoint(copy).digest == Checkpoint(tiny_checkpoint).digest
    edit(copy / "ar" / WEIGHTS, lambda tensors: tensors["start"].add_(1))
    assert Checkpoint(copy).digest != Checkpoint(tiny_checkpoint).digest


def test_saves_over_a_checkpoint_but_over_nothing_else(
    copy: Path, tmp_path: Path, tiny_config: ModelConfig, tiny_modules: Modules
) -> None:
    save_checkpoint(copy, tiny_config, {"ar": tiny_modules["ar"]}, torch.float32)
    assert {path.name for path in copy.iterdir()} == {"config.json", "ar"}
    (tmp_path / "link").symlink_to(copy)
    save_checkpoint(tmp_path / "link", tiny_config, {"dit": tiny_modules["dit"]}, torch.float32)
    assert {path.name for path in copy.iterdir()} == {"config.json", "dit"}
    assert {path.name for path in tmp_path.iterdir()} == {"copy", "link"}
    with pytest.raises(CheckpointError, match="other files"):
        save_checkpoint(copy / "config.json", tiny_config, {}, torch.float32)
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").write_text("Dear")
    with pytest.raises(CheckpointError, match="other files"):
        save_checkpoint(tmp_path / "letters", tiny_config, {}, torch.float32)
    assert {path.name for path in (tmp_path / "letters").iterdir()} == {"dear.txt"}


def test_a_checkpoint_that_cannot_be_finished_leaves_the_old_one(
    copy: Path, tmp_path: Path, tiny_config: ModelConfig, tiny_modules: Modules
) -> None:
    before = Checkpoint(copy).digest
    parts = {"ar": tiny_modules["ar"], "classifier": nn.Linear(1, 1)}  # which has no attributes
    with pytest.raises(AttributeError):
        save_checkpoint(copy, tiny_config, parts, torch.float32)
    assert Checkpoint(copy).digest == before
    assert list(tmp_path.iterdir()) == [copy]


def test_others_may_read_a_checkpoint(tiny_checkpoint: Path) -> None:
    modes = {file.stat().st_mode for file in Checkpoint(tiny_checkpoint).files()}
    assert modes == {(tiny_checkpoint / "config.json").stat().st_mode}


def test_missing_tensor_is_named(copy: Path) -> None:
    edit(copy / "ar" / WEIGHTS, lambda tensors: tensors.pop("start"))
    with pytest.raises(CheckpointError, match=r"ar of .* lacks the tensor start\."):
        Checkpoint(copy).load("ar", "cpu", torch.float32)


def test_extra_tensor_is_named(copy: Path) -> None:
    edit(copy / "ar" / WEIGHTS, lambda tensors: tensors.update(finish=torch.zeros(1)))
    with pytest.raises(CheckpointError, match="has the tensor finish"):
        Checkpoint(copy).load("ar", "cpu", torch.float32)


def test_misshapen_tensor_is_named(copy: Path) -> None:
    edit(copy / "ar" / WEIGHTS, lambda tensors: tensors.update(start=torch.zeros(3)))
    with pytest.raises(CheckpointError, match=r"start has shape \(3,\) instead of \(16,\)"):
        Checkpoint(copy).load("ar", "cpu", torch.float32)


def test_damaged_files_are_named(copy: Path) -> None:
    (copy / "ar" / WEIGHTS).write_bytes(b"not a tensor")
    with pytest.raises(CheckpointError, match="is damaged"):
        Checkpoint(copy).load("ar", "cpu", torch.float32)
    (copy / "dit" / WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match=r"lacks the file .*dit"):
        Checkpoint(copy).load("dit", "cpu", torch.float32)
    (copy / "text_encoder" / "tokenizer.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json is damaged"):
        Checkpoint(copy).load("text_encoder", "cpu", torch.float32)


def test_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint folder"):
        Checkpoint(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        Checkpoint(tmp_path)
