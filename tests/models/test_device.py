from collections.abc import Iterator

import pytest
import torch
from second_device import second_device

from arlon_cli.models.device import resolve_device, resolve_dtype


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


def test_each_process_of_a_run_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    with second_device():
        assert resolve_device("cuda") == torch.device("cuda")
        monkeypatch.setenv("LOCAL_RANK", "1")
        assert resolve_device("cuda") == torch.device("cuda", 1)
        assert resolve_device("cpu") == torch.device("cpu")


def test_bfloat16_by_itself_only_where_a_gpu_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for capability, expected in (((7, 5), torch.float32), ((8, 0), torch.bfloat16)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, found=capability: found)
        assert resolve_dtype("auto", torch.device("cuda")) == expected


def test_the_cpu_changes_nothing() -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    assert torch.backends.cuda.cudnn_sdp_enabled()
