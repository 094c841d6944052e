from collections.abc import Iterator

import pytest
import torch

from arlon_cli.models.device import resolve_device


@pytest.fixture(autouse=True)
def cudnn_attention() -> Iterator[None]:
    torch.backends.cuda.enable_cudnn_sdp(True)
    yield
    torch.backends.cuda.enable_cudnn_sdp(True)


def test_gpus_do_without_attention_that_plans_for_each_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto") == torch.device("cuda")
    assert not torch.backends.cuda.cudnn_sdp_enabled()
    assert torch.backends.cuda.flash_sdp_enabled()


def test_the_cpu_changes_nothing() -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    assert torch.backends.cuda.cudnn_sdp_enabled()
