"""Compare with tensors that other implementations computed: `python tests/golden/check.py FILE...`

Prints the largest absolute error of every output and exits with 1 where one is above 1e-4 or a file is not understood.
Files are safetensors with `weights.*`, `in.*`, `out.*`, `sample.*`, `pipe.*` and the configuration as metadata; each
holds an STDiT3 or a temporal VAE, told apart by the names of their weights.
"""

import json
import math
import sys
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from arlon_cli.config import STDiT3Config, TemporalVAEConfig
from arlon_cli.models.opensora_vae import ChunkedTemporalVAE
from arlon_cli.models.stdit import STDiT3
from arlon_cli.sampling.rectified_flow import RectifiedFlow

TOLERANCE = 1e-4
_SEEDS = 10_000  # that are tried to find a file's


def errors(file: Path) -> dict[str, float]:
    """Largest absolute error of each output in `file`. Raises ValueError for a kind of file that is not supported."""
    with safe_open(file, framework="pt") as stored:
        tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - not a dict
        metadata = stored.metadata() or {}
    if "weights.rope.freqs" in tensors:
        return stdit3_errors(tensors, metadata)
    if "weights.encoder.conv_in.conv.weight" in tensors:
        return temporal_vae_errors(tensors, metadata)
    raise ValueError("neither an STDiT3 nor a temporal VAE")


@torch.no_grad()
def stdit3_errors(tensors: dict[str, Tensor], metadata: dict[str, str]) -> dict[str, float]:
    """Errors of the backbone of Open-Sora v1.2 and of its sampler."""
    config = STDiT3Config(
        in_channels=4,
        pred_sigma=True,
        patch_size=(1, 2, 2),
        mlp_ratio=4.0,
        input_sq_size=512,
        **json.loads(metadata["config"]),
    )
    model = STDiT3(config).eval()
    model.load_state_dict(weights(tensors), strict=True)
    x, timestep, mask, x_mask = (tensors[f"in.{name}"] for name in ("x", "timestep", "mask", "x_mask"))
    text = tensors["in.y"].squeeze(1)
    video = {name: float(tensors[f"in.{name}"][0]) for name in ("height", "width")} | {"fps": tensors["in.fps"][:1]}
    outputs = {
        "out.plain": model(x, timestep, text, text_mask=mask, **video),
        "out.x_mask": model(x, timestep, text, text_mask=mask, x_mask=x_mask, **video),
        "out.no_text_mask": model(x, timestep, text, **video),
    }

    pair = torch.cat([text[:1], model.unconditional_text[None]])

    def network(x_t: Tensor, timestep: Tensor, x_mask: Tensor | None) -> Tensor:
        v = model(x_t, timestep, pair, text_mask=mask[:1].expand(2, -1), x_mask=x_mask, **video)
        return v[:, : x_t.shape[1]]

    flow = RectifiedFlow.for_video(*(int(metadata[name]) for name in ("height", "width", "num_frames")))
    timesteps = flow.timesteps(int(metadata["num_sampling_steps"]))
    scale, given = float(metadata["cfg_scale"]), int(metadata["cond_latent_frames"])
    z = tensors["sample.z"]
    *_, outputs["sample.out"] = flow.sample(network, z, timesteps, guidance_scale=scale)
    z = torch.cat([tensors["sample.cond_latents"], z[:, :, given:]], dim=2)
    generated = torch.arange(z.shape[2])[None] >= given
    # A first timestep rounded to above 1000 makes Open-Sora take every frame for given: its first step leaves z as it
    # is, and its second adds noise of its own before it.
    rounded = bool(tensors["sample.timesteps"][0] > 1000)
    noise = second_noise(tensors) if rounded else None
    if noise is not None:
        noised = flow.add_noise(z, noise, torch.tensor(timesteps[1:2]))
        z = torch.where(generated[:, None, :, None, None], noised, z)
    if rounded and noise is None:
        print("sample.out_cond: NOT COMPARED, it depends on noise that is not in the file")
    else:
        walked = timesteps[1:] if rounded else timesteps
        *_, outputs["sample.out_cond"] = flow.sample(network, z, walked, guidance_scale=scale, x_mask=generated)

    found = compared(outputs, tensors)
    found["sample.timesteps / 1000"] = (torch.tensor(timesteps) - tensors["sample.timesteps"]).abs().max().item() / 1000
    return found


def second_noise(tensors: dict[str, Tensor]) -> Tensor | None:
    """The noise like `sample.z` that Open-Sora drew for its second step, or None where its seed is not found.

    Torch's generator had been seeded for the random weights, of which the first by name is 0.05 times its first normal
    numbers. Then Open-Sora's constructor draws: what every layer starts with (size embedders make theirs twice), all
    linear weights anew, and the first of the frame rate's once more. The first step's noise comes before the second's.
    """
    state, z = weights(tensors), tensors["sample.z"]
    first = min(state)
    for seed in range(_SEEDS):
        generator = torch.Generator().manual_seed(seed)
        if torch.allclose(0.05 * torch.randn(state[first].shape, generator=generator), state[first], atol=1e-6):
            break
    else:
        return None
    drawn = [name for name in state if not name.endswith("_norm.weight") and name != "rope.freqs"]
    linear = [name for name in drawn if name.endswith(".weight") and state[name].dim() == 2]
    again = [name for name in drawn if name.startswith("fps_embedder.")]
    count = sum(state[name].numel() for name in [*drawn, *linear, *again, "fps_embedder.mlp.0.weight"])
    generator.manual_seed(seed)
    torch.rand(count, generator=generator)
    torch.randn(z.shape, generator=generator)
    return torch.randn(z.shape, generator=generator)


@torch.no_grad()
def temporal_vae_errors(tensors: dict[str, Tensor], metadata: dict[str, str]) -> dict[str, float]:
    """Errors of single chunks, and of a clip in chunks with shift and scale."""
    config = {n: tuple(v) if isinstance(v, list) else v for n, v in json.loads(metadata["config"]).items()}
    model = ChunkedTemporalVAE(TemporalVAEConfig(**config)).eval()
    model.temporal_vae.load_state_dict(weights(tensors), strict=True)
    outputs = {}
    for length in (name.removeprefix("in.x") for name in tensors if name.startswith("in.x")):
        frames = tensors[f"in.x{length}"]
        outputs[f"out.mean{length}"], outputs[f"out.logvar{length}"] = model.temporal_vae.posterior(frames)
        outputs[f"out.decoded{length}"] = model.temporal_vae.reconstruct(tensors[f"out.mean{length}"], frames.shape[2])
    if "pipe.in" in tensors:
        outputs["pipe.latents"] = model.compress(tensors["pipe.in"])
        outputs["pipe.decoded"] = model.expand(tensors["pipe.latents"], tensors["pipe.in"].shape[2])
    return compared(outputs, tensors)


def weights(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state dict in a file."""
    return {name.removeprefix("weights."): t for name, t in tensors.items() if name.startswith("weights.")}


def compared(outputs: dict[str, Tensor], tensors: dict[str, Tensor]) -> dict[str, float]:
    """The largest absolute error of each output that the file holds too; another shape is an infinite error."""
    shared = {name: (output, tensors[name]) for name, output in outputs.items() if name in tensors}
    return {name: (a - b).abs().max().item() if a.shape == b.shape else math.inf for name, (a, b) in shared.items()}


def main(files: list[str]) -> int:
    failed = not files
    for file in files:
        try:
            found = errors(Path(file))
        except (ValueError, OSError, SafetensorError) as error:
            print(f"{file}: {error}")
            failed = True
            continue
        for name, size in found.items():
            print(f"{file}: {name}: {size:.1e}")
            failed |= not size <= TOLERANCE
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
