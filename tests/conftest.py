"""A tiny model of random weights, small enough to render a video in well under a second."""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch
from hypothesis import settings
from safetensors.torch import save_file
from torch import nn
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

from arlon_cli.config import (
    ModelConfig,
    OpenSoraVAEConfig,
    PublishedParts,
    PublishedT5Config,
    SpatialVAEConfig,
    TemporalVAEConfig,
)
from arlon_cli.models.ar_transformer import ARTransformer
from arlon_cli.models.attribute_classifier import AttributeClassifier
from arlon_cli.models.draft_ranker import DraftRanker
from arlon_cli.models.latent_vqvae import LatentVQVAE
from arlon_cli.models.opensora_vae import OpenSoraVAE
from arlon_cli.models.stdit import STDiT3
from arlon_cli.models.text_encoder import TextEncoder, build_tokenizer
from arlon_cli.models.video_vae import VideoVAE
from arlon_cli.presets import DIORAMA, OPENSORA_V1_2
from arlon_cli.storage.checkpoint import save_checkpoint
from arlon_cli.storage.video import VideoWriter
from arlon_cli.training import painting

settings.register_profile("arlon", deadline=None)  # how long an example takes says nothing about the code
settings.load_profile("arlon")

TINY = replace(
    DIORAMA,
    name="tiny",
    height=32,
    width=32,
    text_encoder=replace(
        DIORAMA.text_encoder, vocab_size=64, width=16, num_layers=1, num_heads=2, ffn_width=16, max_tokens=12
    ),
    video_vae=replace(DIORAMA.video_vae, latent_channels=4, widths=(8, 8, 8), num_res_blocks=1),
    latent_vqvae=replace(
        DIORAMA.latent_vqvae,
        latent_channels=4,
        width=8,
        fine_width=8,
        num_res_blocks=1,
        num_heads=2,
        codebook_size=16,
        codebook_dim=8,
    ),
    latent_vqvae_coarse=replace(
        DIORAMA.latent_vqvae_coarse,
        latent_channels=4,
        width=8,
        fine_width=8,
        num_res_blocks=1,
        num_heads=2,
        codebook_size=16,
        codebook_dim=8,
    ),
    ar=replace(
        DIORAMA.ar,
        text_width=16,
        max_text_tokens=12,
        codebook_size=16,
        code_height=2,
        code_width=2,
        window_frames=4,
        width=16,
        num_layers=1,
        num_heads=2,
        ffn_width=16,
    ),
    ranker=replace(
        DIORAMA.ranker,
        text_width=16,
        condition_channels=8,
        width=8,
        num_blocks=1,
        frames=2,
        change_frames=1,
        first_candidates=4,
        candidates=3,
    ),
    dit=replace(
        DIORAMA.dit,
        in_channels=4,
        hidden_size=32,
        depth=1,
        num_heads=2,
        caption_channels=16,
        model_max_length=12,
        input_sq_size=4,
    ),
    injection=replace(DIORAMA.injection, condition_channels=4, layers=(0,)),
    segments=replace(DIORAMA.segments, num_latents=5, overlap=2),
    sampling=replace(DIORAMA.sampling, num_steps=2, num_steps_without_codes=3, ar_guidance_scale=2.0),
)
TINY_OPENSORA = replace(
    OPENSORA_V1_2,
    name="tiny-opensora",
    height=32,
    width=32,
    text_encoder=PublishedT5Config(width=16, max_tokens=12, suffix="score: 6.", num_parameters=3000),
    video_vae=OpenSoraVAEConfig(
        spatial=SpatialVAEConfig(4, (8, 8, 8, 8), 1, 4, 0.18215, 4),
        temporal=TemporalVAEConfig(4, 4, 4, 8, 1, (1, 1, 2, 2), (False, True, True), 4),
    ),
    latent_vqvae=replace(TINY.latent_vqvae, ratio=(4, 2, 2)),
    latent_vqvae_coarse=replace(TINY.latent_vqvae_coarse, ratio=(4, 4, 4)),
    ar=replace(TINY.ar, previous_frame_input=False),
    dit=replace(OPENSORA_V1_2.dit, hidden_size=32, depth=2, num_heads=2, caption_channels=16, model_max_length=12),
    injection=replace(OPENSORA_V1_2.injection, layers=(0,)),
    sampling=replace(OPENSORA_V1_2.sampling, num_steps=2, num_steps_without_codes=2),
    published=PublishedParts(text_encoder="tiny/t5", video_vae="tiny/vae", dit="tiny/dit"),
)
VIDEO_CAPTIONS = {"red.mp4": "a red hill", "blue.mp4": "a blue sea", "wide.mp4": "snow under a hill"}
WORDS = ("a", "red", "blue", "hill", "sea", "under", "snow")


def tiny_parts(config: ModelConfig) -> dict[str, nn.Module]:
    """The parts of a config, with weights from a fixed seed."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        parts: dict[str, nn.Module] = {
            "text_encoder": TextEncoder(config.text_encoder, build_tokenizer(WORDS, config.text_encoder)),
            "video_vae": VideoVAE(config.video_vae),
            "latent_vqvae": LatentVQVAE(config.latent_vqvae),
            "latent_vqvae_coarse": LatentVQVAE(config.latent_vqvae_coarse),
            "ar": ARTransformer(config.ar),
            "ranker": DraftRanker(config.ranker),
            "dit": STDiT3(config.dit, config.injection),
            "classifier": AttributeClassifier({"family": ("hill", "sea"), "colour": ("red", "blue", "none")}),
        }
        for parameter in parts["dit"].parameters():
            nn.init.normal_(parameter, std=0.1)  # no gate closed: text, codes and steps all count
    return parts


def write_video(path: Path, *, num_frames: int, width: int, height: int, fps: float, seed: int) -> None:
    """A soft pattern that moves."""
    phases = np.random.default_rng(seed).uniform(0, 6, 3)
    time, y, x = np.ogrid[:num_frames, :height, :width]
    waves = [128 + 100 * np.sin(x / 5 + y / 7 + time / 6 + phase) for phase in phases]
    frames = np.stack(waves, axis=-1).astype(np.uint8)
    with VideoWriter(path, width=width, height=height, fps=fps, comment="") as writer:
        writer.write(frames)


@pytest.fixture(scope="session", autouse=True)
def paint_here() -> Iterator[None]:
    """A few small pictures are not worth starting processes for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(painting, "PROCESSES", 0)
        yield


@pytest.fixture(scope="session")
def tiny_config() -> ModelConfig:
    """The tiny model's configuration."""
    return TINY


@pytest.fixture(scope="session")
def tiny_opensora_config() -> ModelConfig:
    """That of a tiny model whose text encoder, VAE and backbone others published."""
    return TINY_OPENSORA


@pytest.fixture(scope="session")
def tiny_modules() -> dict[str, nn.Module]:
    """The tiny model's parts; not to be changed."""
    return tiny_parts(TINY)


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory, tiny_modules: dict[str, nn.Module]) -> Path:
    """The folder of a tiny checkpoint; not to be changed."""
    folder = tmp_path_factory.mktemp("weights") / "tiny"
    save_checkpoint(folder, TINY, tiny_modules, torch.float32)
    return folder


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with captions.csv of three videos and one file that is none; not to be changed."""
    folder = tmp_path_factory.mktemp("data")
    write_video(folder / "red.mp4", num_frames=60, width=32, height=32, fps=24, seed=0)
    write_video(folder / "blue.mp4", num_frames=30, width=48, height=40, fps=12, seed=1)
    write_video(folder / "wide.mp4", num_frames=48, width=96, height=48, fps=24, seed=2)
    (folder / "bad.mp4").write_bytes(b"no video" * 100)
    rows = [f"{name},{caption}\n" for name, caption in {**VIDEO_CAPTIONS, "bad.mp4": "nothing"}.items()]
    (folder / "captions.csv").write_text("file,caption\n" + "".join(rows))
    return folder


def snapshot(cache: Path, source: str) -> Path:
    """An empty folder where huggingface_hub's cache has the snapshot of a repository."""
    repository = cache / f"models--{source.replace('/', '--')}"
    folder = repository / "snapshots" / ("0" * 40)
    folder.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    return folder


@pytest.fixture(scope="session")
def tiny_hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """huggingface_hub's cache with tiny published parts: a T5, a VAE, and a DiT in two shards; not to be changed."""
    cache = tmp_path_factory.mktemp("hub")
    t5, vae, dit = (snapshot(cache, source) for source in ("tiny/t5", "tiny/vae", "tiny/dit"))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = T5Config(
            vocab_size=64, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, feed_forward_proj="gated-gelu"
        )
        T5EncoderModel(config).save_pretrained(t5)
        words = build_tokenizer((*WORDS, "score 6"), TINY.text_encoder)
        PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="</s>").save_pretrained(t5)
        save_file(OpenSoraVAE(TINY_OPENSORA.video_vae).state_dict(), vae / "model.safetensors")
        backbone = STDiT3(TINY_OPENSORA.dit)
        for parameter in backbone.parameters():
            nn.init.normal_(parameter, std=0.1)
    tensors = list(backbone.state_dict().items())
    shards = {"model-00001-of-00002.safetensors": tensors[::2], "model-00002-of-00002.safetensors": tensors[1::2]}
    for name, shard in shards.items():
        save_file(dict(shard), dit / name)
    weight_map = {key: name for name, shard in shards.items() for key, _ in shard}
    (dit / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    for folder in (vae, dit):
        (folder / "config.json").write_text("{}")
    return cache


@pytest.fixture
def offline_hub(tiny_hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the tiny hub cache, which huggingface_hub uses, and nothing else."""
    cache = Path(shutil.copytree(tiny_hub, tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return cache


@pytest.fixture
def tiny_backbone(offline_hub: Path, tmp_path: Path) -> Path:
    """A checkpoint of published parts alone."""
    folder = tmp_path / "backbone"
    save_checkpoint(folder, TINY_OPENSORA, {}, torch.float32)
    return folder


@pytest.fixture
def tiny_arlon(offline_hub: Path, tmp_path: Path) -> Path:
    """A checkpoint of published parts, and parts of ARLON with random weights around them."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        dit = STDiT3(TINY_OPENSORA.dit, TINY_OPENSORA.injection)
        assert dit.injection is not None
        for parameter in dit.injection.parameters():
            nn.init.normal_(parameter, std=0.1)
        parts = {
            "latent_vqvae": LatentVQVAE(TINY_OPENSORA.latent_vqvae),
            "ar": ARTransformer(TINY_OPENSORA.ar),
            "dit": dit,
            "latent_vqvae_coarse": LatentVQVAE(TINY_OPENSORA.latent_vqvae_coarse),
        }
    save_checkpoint(tmp_path / "arlon", TINY_OPENSORA, parts, torch.float32)
    return tmp_path / "arlon"


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test has a store and a configuration folder of its own."""
    monkeypatch.setenv("ARLON_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("ARLON_CONFIG_DIR", str(tmp_path / "config"))
    for name in os.environ.keys() - {"ARLON_CACHE_DIR", "ARLON_CONFIG_DIR"}:
        if name.startswith("ARLON_"):
            monkeypatch.delenv(name)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, which is the current one."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder
