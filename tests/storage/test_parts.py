"""What of the paper's model is trained and saved: its own parts, and of the DiT the adapters."""

import pytest
import torch

from arlon_cli.config import DIORAMA, OPENSORA_V1_2
from arlon_cli.models.stdit import STDiT3
from arlon_cli.storage.parts import is_own


def test_the_adapters_of_the_paper_are_92_million_parameters() -> None:
    config = OPENSORA_V1_2
    with torch.device("meta"):
        model = STDiT3(config.dit, config.injection)
    own = sum(p.numel() for name, p in model.named_parameters() if is_own(config, "dit", name))
    assert own == pytest.approx(92e6, rel=0.03)
    assert own == sum(p.numel() for p in model.injection.parameters())  # type: ignore[union-attr]


def test_published_parts_are_not_ours() -> None:
    assert not is_own(OPENSORA_V1_2, "text_encoder", "t5.shared.weight")
    assert not is_own(OPENSORA_V1_2, "video_vae", "scale")
    assert is_own(OPENSORA_V1_2, "latent_vqvae", "codebook")
    assert is_own(OPENSORA_V1_2, "ar", "start")
    assert is_own(DIORAMA, "dit", "x_embedder.proj.weight")
    assert is_own(DIORAMA, "video_vae", "scale")
