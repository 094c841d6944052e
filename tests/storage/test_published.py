"""Published parts are read from the Hub's layout, and what is wrong with them is named."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from arlon_cli.config import ModelConfig
from arlon_cli.errors import CheckpointError
from arlon_cli.models.stdit import STDiT3
from arlon_cli.presets import OPENSORA_V1_2
from arlon_cli.storage.checkpoint import ADAPTERS, WEIGHTS, Checkpoint, save_checkpoint
from arlon_cli.storage.published import PublishedPart, fingerprint
from arlon_cli.storage.weights import find_weights, read_config

SHARD = "model-00002-of-00002.safetensors"


def part_folder(hub: Path, part: str) -> Path:
    return hub / f"models--tiny--{part}" / "snapshots" / ("0" * 40)


def edit(file: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)


def test_the_presets_folder_is_the_preset() -> None:
    assert read_config(find_weights("opensora-v1.2")) == OPENSORA_V1_2


@pytest.mark.parametrize("part", ["text_encoder", "video_vae", "dit"])
def test_parts_come_from_the_hubs_cache(tiny_backbone: Path, offline_hub: Path, part: str) -> None:
    module = Checkpoint(tiny_backbone).load(part, "cpu", torch.float32)
    folder = part_folder(offline_hub, {"text_encoder": "t5", "video_vae": "vae", "dit": "dit"}[part])
    stored = {name: value for file in folder.glob("*.safetensors") for name, value in load_file(file).items()}
    loaded = {name.removeprefix("t5."): value for name, value in module.state_dict().items()}
    assert stored.keys() <= loaded.keys()
    assert all(torch.equal(loaded[name], value) for name, value in stored.items())
    assert not any(tensor.is_meta for tensor in (*module.parameters(), *module.buffers()))


def test_a_checkpoint_holds_the_adapters_alone(tiny_arlon: Path, offline_hub: Path) -> None:
    stored = load_file(tiny_arlon / "dit" / WEIGHTS)
    assert stored
    assert all(name.startswith(ADAPTERS) for name in stored)
    dit = Checkpoint(tiny_arlon).load("dit", "cpu", torch.float32).state_dict()
    backbone = load_file(part_folder(offline_hub, "dit") / SHARD)
    assert all(torch.equal(dit[name], value) for name, value in (stored | backbone).items())


def test_the_adapters_of_the_paper_are_92_million_parameters() -> None:
    with torch.device("meta"):
        model = STDiT3(OPENSORA_V1_2.dit, OPENSORA_V1_2.injection)
    adapters = sum(p.numel() for name, p in model.named_parameters() if name.startswith(ADAPTERS))
    assert adapters == pytest.approx(92e6, rel=0.03)


def test_folders_may_stand_for_ids(tiny_arlon: Path, offline_hub: Path, tmp_path: Path) -> None:
    before = Checkpoint(tiny_arlon)
    shutil.copytree(part_folder(offline_hub, "dit"), tiny_arlon / "backbone")
    shutil.copytree(part_folder(offline_hub, "vae"), tmp_path / "vae")
    config = json.loads((tiny_arlon / "config.json").read_text())
    config["published"] |= {"dit": "backbone", "video_vae": str(tmp_path / "vae")}
    (tiny_arlon / "config.json").write_text(json.dumps(config))
    shutil.rmtree(offline_hub / "models--tiny--dit")
    shutil.rmtree(offline_hub / "models--tiny--vae")
    for part in ("dit", "video_vae"):
        a, b = Checkpoint(tiny_arlon).load(part, "cpu", torch.float32), before.config
        assert isinstance(b, ModelConfig)
        assert not any(tensor.is_meta for tensor in a.parameters())
    (tmp_path / "vae" / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"vae, which is to hold the video_vae of .*arlon, lacks files"):
        Checkpoint(tiny_arlon).check("video_vae")
    shutil.rmtree(tmp_path / "vae")
    with pytest.raises(CheckpointError, match=r"vae, which is to hold the video_vae of .*arlon, is not there"):
        Checkpoint(tiny_arlon).load("video_vae", "cpu", torch.float32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop("rope.freqs"), r"dit of tiny/dit lacks the tensor rope\.freqs\."),
        (lambda tensors: tensors.update(more=torch.zeros(1)), "dit of tiny/dit has the tensor more,"),
        (lambda tensors: tensors.update({"rope.freqs": torch.zeros(3)}), r"rope\.freqs has shape \(3,\) instead"),
        (
            lambda tensors: tensors.update({"rope.freqs": torch.zeros(8, dtype=torch.int8)}),
            r"the tensor rope\.freqs is of type int8",
        ),
    ],
)
def test_a_wrong_tensor_is_named(
    tiny_backbone: Path, offline_hub: Path, change: Callable[[dict[str, Tensor]], object], message: str
) -> None:
    [file] = [f for f in part_folder(offline_hub, "dit").glob("*.safetensors") if "rope.freqs" in load_file(f)]
    edit(file, change)
    with pytest.raises(CheckpointError, match=message):
        Checkpoint(tiny_backbone).load("dit", "cpu", torch.float32)


def test_adapters_do_not_replace_the_backbone(tiny_arlon: Path) -> None:
    edit(tiny_arlon / "dit" / WEIGHTS, lambda tensors: tensors.update({"rope.freqs": torch.zeros(8)}))
    with pytest.raises(CheckpointError, match=r"dit of .*arlon has the tensor rope\.freqs, which is no adapter's"):
        Checkpoint(tiny_arlon).load("dit", "cpu", torch.float32)


def test_published_parts_are_not_saved_again(tiny_arlon: Path, tmp_path: Path) -> None:
    checkpoint = Checkpoint(tiny_arlon)
    vae = checkpoint.load("video_vae", "cpu", torch.float32)
    with pytest.raises(CheckpointError, match="has no part video_vae"):
        save_checkpoint(tmp_path / "copy", checkpoint.config, {"video_vae": vae}, torch.float32)


def test_half_a_download_is_told_from_a_whole_one(tiny_backbone: Path, offline_hub: Path) -> None:
    Checkpoint(tiny_backbone).check("text_encoder", "video_vae", "dit")
    (part_folder(offline_hub, "dit") / SHARD).unlink()
    (part_folder(offline_hub, "t5") / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"copy of tiny/t5 and tiny/dit\. `arlon models pull .*backbone`"):
        Checkpoint(tiny_backbone).check("text_encoder", "video_vae", "dit")


def test_the_digest_follows_published_and_own_files(tiny_arlon: Path, offline_hub: Path) -> None:
    before = Checkpoint(tiny_arlon).digest
    assert Checkpoint(tiny_arlon).digest == before
    edit(tiny_arlon / "ar" / WEIGHTS, lambda tensors: tensors["start"].add_(1))
    own = Checkpoint(tiny_arlon).digest
    edit(part_folder(offline_hub, "dit") / SHARD, lambda tensors: [value.add_(1) for value in tensors.values()])
    assert len({before, own, Checkpoint(tiny_arlon).digest}) == 3


def test_a_parts_digest_follows_its_own_files_and_configuration_alone(tiny_arlon: Path, offline_hub: Path) -> None:
    def digests() -> dict[str, str]:
        return {part: Checkpoint(tiny_arlon).part_digest(part) for part in ("text_encoder", "ar", "dit")}

    def changed(before: dict[str, str]) -> set[str]:
        return {part for part, digest in digests().items() if digest != before[part]}

    before = digests()
    assert len(set(before.values())) == 3
    edit(part_folder(offline_hub, "t5") / WEIGHTS, lambda tensors: [value.add_(1) for value in tensors.values()])
    assert changed(before) == {"text_encoder"}
    before = digests()
    edit(part_folder(offline_hub, "dit") / SHARD, lambda tensors: [value.add_(1) for value in tensors.values()])
    assert changed(before) == {"dit"}
    before = digests()
    edit(tiny_arlon / "dit" / WEIGHTS, lambda tensors: [value.add_(1) for value in tensors.values()])
    assert changed(before) == {"dit"}
    before = digests()
    config = json.loads((tiny_arlon / "config.json").read_text())
    config["injection"]["noise_probability"] = 0.5
    (tiny_arlon / "config.json").write_text(json.dumps(config))
    assert changed(before) == {"dit"}


def test_fingerprints_look_all_over_a_large_file(tmp_path: Path) -> None:
    file = tmp_path / "large"
    content = bytearray(40_000_000)
    file.write_bytes(content)
    before = fingerprint(file)
    content[::100_000] = b"x" * 400
    file.write_bytes(content)
    assert fingerprint(file) != before
    file.write_bytes(content + b"x")
    assert fingerprint(file) != before


def test_only_what_is_read_is_fetched() -> None:
    names = ["README.md", "config.json", "tf_model.h5", "spiece.model", "tokenizer_config.json"]
    pickles = ["pytorch_model-00001-of-00002.bin", "pytorch_model.bin.index.json"]
    text, other = (PublishedPart("a/b", Path(), text) for text in (True, False))
    assert text.wanted([*names, *pickles]) == sorted({*names, *pickles} - {"README.md", "tf_model.h5"})
    assert text.wanted(["model.safetensors", *pickles]) == ["model.safetensors", "pytorch_model.bin.index.json"]
    assert other.wanted(["model.safetensors", "model.fp16/model.safetensors", "config.json", *pickles]) == [
        "config.json",
        "model.safetensors",
        "pytorch_model.bin.index.json",
    ]
