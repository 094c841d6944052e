"""What parts are compared with is the same network, or as large."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from arlon_cli.config import ModelConfig
from arlon_cli.evaluation.bench.comparisons import Comparison, compare_denoising, compare_drafting, gpt2_twin
from arlon_cli.evaluation.bench.eager import EagerCrossAttention, EagerSelfAttention, eager_copy
from arlon_cli.evaluation.bench.timing import Spread
from arlon_cli.models.ar_transformer import ARTransformer
from arlon_cli.models.stdit import CrossAttention, SelfAttention, STDiT3
from arlon_cli.presets import DIORAMA

CPU = torch.device("cpu")


@pytest.mark.parametrize(("fusion", "places"), [("adaptive_norm", 12), ("adaptive_norm", 8), ("controlnet", 5)])
def test_the_eager_network_is_the_same(fusion: str, places: int, tiny_config: ModelConfig) -> None:
    torch.manual_seed(0)
    dit = STDiT3(replace(tiny_config.dit, depth=2), replace(tiny_config.injection, fusion=fusion)).eval()
    for parameter in dit.parameters():
        nn.init.normal_(parameter, std=0.1)
    before = {name: tensor.clone() for name, tensor in dit.state_dict().items()}
    eager = eager_copy(dit)
    kinds = [type(module) for module in eager.modules()]
    assert SelfAttention not in kinds and CrossAttention not in kinds
    assert kinds.count(EagerSelfAttention) == kinds.count(EagerCrossAttention) > 0
    assert sum(p.numel() for p in eager.parameters()) == sum(p.numel() for p in dit.parameters())
    x_t, condition = torch.randn(2, 2, 4, 5, 4, 4)
    text = torch.randn(2, places, 16)  # to few, cross-attention is made of other products
    mask = torch.arange(places) < torch.tensor([[3], [places]])
    fps, timestep = torch.tensor([24.0]), torch.tensor([300.0, 900.0])
    with torch.inference_mode():
        expected, found, unmasked = (
            network(
                *(x_t, timestep, text),
                fps=fps,
                height=32,
                width=32,
                text_mask=own_mask,
                condition=condition,
            )
            for network, own_mask in ((dit, mask), (eager, mask), (eager, None))
        )
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(found, unmasked, atol=1e-3)  # what is hidden counts
    assert all(torch.equal(tensor, before[name]) for name, tensor in dit.state_dict().items())


def test_gpt2_is_as_large() -> None:
    config = DIORAMA.ar
    twin = gpt2_twin(config, 300)
    assert len(twin.transformer.h) == config.num_layers
    block = twin.transformer.h[0]
    assert block.attn.num_heads == config.num_heads
    assert tuple(block.attn.c_attn.weight.shape) == (config.width, 3 * config.width)
    assert tuple(block.mlp.c_fc.weight.shape) == (config.width, config.ffn_width)
    assert twin.lm_head.out_features == config.codebook_size + 2
    ours = sum(parameter.numel() for parameter in ARTransformer(config).blocks.parameters())  # type: ignore[attr-defined]
    assert sum(parameter.numel() for parameter in twin.transformer.h.parameters()) == ours


def test_both_are_timed(tiny_config: ModelConfig, tiny_modules: dict[str, nn.Module]) -> None:
    ar, dit = tiny_modules["ar"], tiny_modules["dit"]
    assert isinstance(ar, ARTransformer) and isinstance(dit, STDiT3)
    drafting = compare_drafting(ar, tiny_config, CPU, repeats=2)
    assert drafting.name == "AR Transformer, 16 codes"
    single = compare_denoising(dit, tiny_config, CPU, torch.float32, repeats=2)
    both = compare_denoising(dit, tiny_config, CPU, torch.bfloat16, repeats=2)
    compiled: list[nn.Module] = []
    third = compare_denoising(dit, tiny_config, CPU, torch.bfloat16, repeats=2, compile_network=compiled.append)
    assert third[2].name == "DiT, a step in bfloat16, compiled"
    assert all(network is not dit and next(network.parameters()).dtype == torch.bfloat16 for network in compiled)
    assert [found.name for found in single] == ["DiT, a step in float32", "DiT, a step of two segments in float32"]
    assert [found.name for found in both] == [
        "DiT, a step in float32",
        "DiT, a step in bfloat16",
        "DiT, a step of two segments in bfloat16",
    ]
    assert dit.unconditional_text.dtype == torch.float32
    for found in (drafting, *single, *both):
        assert 0 < found.seconds.least <= found.seconds.most
        assert found.times_as_fast == pytest.approx(found.other_seconds.median / found.seconds.median)
    twice = Comparison("a", "b", Spread(1.0, 1.0, 1.0), Spread(2.0, 2.0, 2.0))
    assert twice.numbers()["times_as_fast"] == 2.0
