"""Where the networks run, and in which precision."""

import os

import torch

from arlon_cli.errors import InputError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def resolve_device(name: str) -> torch.device:
    """The device of a name such as `cpu`, `cuda:1` or `auto`. Raises InputError where this machine has none such.

    Of several processes of a run, each has a GPU of its own. On GPUs, cuDNN's attention is left out from then on: it
    plans for half a second whenever a length is new, and lengths of texts, windows and caches are new all the time.
    """
    if name == "auto":
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    else:
        try:
            device = torch.device(name)
            if name == "cuda" and (own := os.environ.get("LOCAL_RANK", "")).isdecimal():
                device = torch.device("cuda", int(own))
            torch.empty(1, device=device).cpu()
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            raise InputError(f"This machine has no device {name!r}; try --device cpu.") from error
    if device.type == "cuda":
        torch.backends.cuda.enable_cudnn_sdp(False)
    return device


def resolve_dtype(name: str, device: torch.device) -> torch.dtype:
    """The dtype of a name; `auto` is bfloat16 where the device computes in it. Raises InputError for another name."""
    if name == "auto":
        return torch.bfloat16 if has_native_bf16(device) else torch.float32
    if name not in DTYPES:
        raise InputError(f"The dtype {name!r} is unknown; use auto, {' or '.join(DTYPES)}.")
    return DTYPES[name]


def finish_work(device: torch.device) -> None:
    """Wait until a device has done what it was asked to do; a CPU always has."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def has_native_bf16(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 itself: a processor that does not is hundreds of times slower in it.

    GPUs do from compute capability 8.0 (Ampere) on.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())
