"""Compare with tensors that other implementations computed: `python tests/golden/check.py FILE...`

Prints the largest absolute error of every output and exits with 1 where one is above 1e-4 or a file is not understood.
Files are safetensors with `weights.*`, `in.*`, `out.*`, `sample.*` and the configuration as metadata.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from arlon_cli.config import STDiT3Config
from arlon_cli.models.stdit import STDiT3
from arlon_cli.sampling.rectified_flow import RectifiedFlow

TOLERANCE = 1e-4


def errors(file: Path) -> dict[str, float]:
    """Largest absolute error of each output in `file`. Raises ValueError for a kind of file that is not supported."""
    with safe_open(file, framework="pt") as stored:
        tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - not a dict
        metadata = stored.metadata() or {}
    if "weights.rope.freqs" in tensors:
        return stdit3_errors(tensors, metadata)
    raise ValueError("not supported")


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
    weights = {name.removeprefix("weights."): t for name, t in tensors.items() if name.startswith("weights.")}
    model.load_state_dict(weights, strict=True)
    x, timestep, mask, x_mask = (tensors[f"in.{name}"] for name in ("x", "timestep", "mask", "x_mask"))
    text = tensors["in.y"].squeeze(1)
    video = {name: tensors[f"in.{name}"][:1] for name in ("fps", "height", "width")}
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
    if tensors["sample.timesteps"][0] <= 1000:
        *_, outputs["sample.out_cond"] = flow.sample(network, z, timesteps, guidance_scale=scale, x_mask=generated)
    else:
        # Its first timestep was rounded to above 1000, where Open-Sora takes every frame for given, and then adds
        # noise that the file does not hold: what came of it cannot be computed again.
        print("sample.out_cond: NOT COMPARED, it depends on noise that is not in the file")

    found = {name: (output - tensors[name]).abs().max().item() for name, output in outputs.items()}
    found["sample.timesteps / 1000"] = (torch.tensor(timesteps) - tensors["sample.timesteps"]).abs().max().item() / 1000
    return found


def main(files: list[str]) -> int:
    failed = not files
    for file in files:
        try:
            found = errors(Path(file))
        except ValueError as error:
            print(f"{file}: {error}")
            failed = True
            continue
        for name, size in found.items():
            print(f"{file}: {name}: {size:.1e}")
            failed |= not size <= TOLERANCE
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
