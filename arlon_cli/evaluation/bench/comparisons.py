"""Parts beside what else would do their work, in the same run on the same machine."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel

from arlon_cli.config import ARConfig, ModelConfig
from arlon_cli.evaluation.bench.eager import eager_copy
from arlon_cli.evaluation.bench.stages import DRAFTED_FRAMES, Texts, random_texts, step_of
from arlon_cli.evaluation.bench.timing import REPEATS, Spread, time_in_turn
from arlon_cli.models.ar_transformer import ARTransformer
from arlon_cli.models.stdit import STDiT3
from arlon_cli.sampling.autoregressive import Span, draft


@dataclass(frozen=True)
class Comparison:
    """Seconds that a part of ours and another one take for the same."""

    name: str
    other: str
    seconds: Spread
    other_seconds: Spread

    @property
    def times_as_fast(self) -> float:
        return self.other_seconds.median / self.seconds.median

    def numbers(self) -> dict[str, Any]:
        return asdict(self) | {"times_as_fast": self.times_as_fast}


def gpt2_twin(config: ARConfig, num_positions: int) -> GPT2LMHeadModel:
    """A GPT-2 of transformers with random weights, as wide and deep, with as many heads and words."""
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=config.codebook_size + 2,
            n_positions=num_positions,
            n_embd=config.width,
            n_layer=config.num_layers,
            n_head=config.num_heads,
            n_inner=config.ffn_width,
            activation_function="gelu",
            bos_token_id=0,
            eos_token_id=None,
        )
    ).eval()


@torch.inference_mode()
def compare_drafting(
    ar: ARTransformer, config: ModelConfig, device: torch.device, texts: Texts | None = None, repeats: int = REPEATS
) -> Comparison:
    """Codes of one sequence, sampled without guidance after as many positions as the prompt has."""
    (text, mask), _ = texts or random_texts(config)
    num_codes = DRAFTED_FRAMES * ar.codes_per_frame
    temperature, top_k = config.sampling.ar_temperature or 1.0, config.sampling.ar_top_k
    prompt = torch.zeros(1, int(mask.sum()) + 1, dtype=torch.long, device=device)
    gpt2 = gpt2_twin(config.ar, prompt.shape[1] + num_codes).to(device, ar.start.dtype)
    settings = GenerationConfig(
        do_sample=True,
        temperature=temperature,
        top_k=top_k,
        max_new_tokens=num_codes,
        use_cache=True,
        pad_token_id=0,
    )

    def ours() -> int:
        span = Span(text, mask, DRAFTED_FRAMES)
        frames = draft(
            ar,
            [span],
            seed=0,
            temperature=temperature,
            top_k=top_k,
            guidance_scale=1.0,
        )
        return sum(frame.numel() for frame in frames)

    def theirs() -> int:
        made = gpt2.generate(prompt, attention_mask=torch.ones_like(prompt), generation_config=settings)
        return made.shape[1] - prompt.shape[1]

    if not ours() == theirs() == num_codes:  # warms both up
        raise RuntimeError("The AR Transformer and GPT-2 did not draft as many codes.")
    times = time_in_turn((ours, theirs), device, repeats)
    return Comparison(f"AR Transformer, {num_codes} codes", "GPT-2 in transformers, with its cache", *times)


@torch.inference_mode()
def compare_denoising(
    dit: STDiT3,
    config: ModelConfig,
    device: torch.device,
    dtype: torch.dtype,
    texts: Texts | None = None,
    repeats: int = REPEATS,
    compile_network: Callable[[nn.Module], None] | None = None,
) -> list[Comparison]:
    """One step of a whole segment, beside that of the eager network in single precision, as `dit` is.

    Ours is in single precision too; where that is another, in the `dtype` in which it samples; and so, compiled, where
    something compiles a network. In that dtype a step of two segments at once, too, beside one after the other.
    """
    kind = str(dtype).removeprefix("torch.")
    networks = {"float32": dit} | ({} if dtype == torch.float32 else {kind: deepcopy(dit).to(dtype)})
    if compile_network is not None:
        networks[f"{kind}, compiled"] = deepcopy(networks[kind])
        compile_network(networks[f"{kind}, compiled"])
    steps = [step_of(network, config, device, texts=texts) for network in (eager_copy(dit), *networks.values())]
    for step in steps:
        step()
    eager, *ours = time_in_turn(steps, device, repeats)
    alone = step_of(networks[kind], config, device, texts=texts)
    both = step_of(networks[kind], config, device, texts=texts, num_segments=2)
    both()
    together, in_turn = time_in_turn((both, lambda: (alone(), alone())), device, repeats)
    return [
        *(
            Comparison(f"DiT, a step in {name}", "eager attention, separate projections, in float32", seconds, eager)
            for name, seconds in zip(networks, ours, strict=True)
        ),
        Comparison(f"DiT, a step of two segments in {kind}", "one after the other", together, in_turn),
    ]
