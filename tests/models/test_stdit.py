"""STDiT3 gives Open-Sora v1.2's own numbers, has its names at full size, and an untrained injection changes nothing."""

import ast
import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch

from arlon_cli.config import SemanticInjectionConfig, STDiT3Config
from arlon_cli.models.stdit import STDiT3
from arlon_cli.presets import DIORAMA, OPENSORA_V1_2

GOLDEN = Path(__file__).parents[1] / "golden"
TINY = STDiT3Config(4, False, (1, 2, 2), 32, 2, 2, 2.0, 16, 6, True, 16)


def injection(layers: tuple[int, ...], fusion: str = "adaptive_norm") -> SemanticInjectionConfig:
    return SemanticInjectionConfig(4, layers, fusion, "uncertainty", 0.5, False, False)


def inputs(batch: int = 2) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    return {
        "x_t": torch.randn(batch, 4, 3, 4, 6, generator=generator),
        "timestep": torch.linspace(100, 900, batch),
        "text": torch.randn(batch, 6, 16, generator=generator),
        "fps": torch.tensor([24.0]),
        "height": 32.0,
        "width": 48.0,
    }


def awake(model: STDiT3) -> STDiT3:
    """The model with every parameter that starts at zero made random."""
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if not name.startswith("injection") and not parameter.any():
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
    return model.eval().requires_grad_(False)


@pytest.mark.parametrize("file", ["stdit3_padded", "stdit3_small"])
def test_reference_tensors_agree(file: str) -> None:
    spec = importlib.util.spec_from_file_location("check", GOLDEN / "check.py")
    assert spec is not None and spec.loader is not None
    check = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(check)
    errors = dict(check.errors(GOLDEN / f"{file}.safetensors"))
    assert len(errors) == 6
    assert max(errors.values()) < 1e-4, errors


def test_full_size_has_the_published_names_and_shapes() -> None:
    with torch.device("meta"):
        model = STDiT3(OPENSORA_V1_2.dit)
    lines = (GOLDEN / "stdit3_xl2_keys.txt").read_text().splitlines()
    published = {name: ast.literal_eval(shape) for name, shape, *_ in (line.split("\t") for line in lines)}
    assert {name: tuple(t.shape) for name, t in model.state_dict().items()} == published


@pytest.mark.parametrize("fusion", ["adaptive_norm", "mlp_adapter", "controlnet"])
def test_an_untrained_injection_is_the_backbone_bit_for_bit(fusion: str) -> None:
    torch.manual_seed(0)
    guided = awake(STDiT3(TINY))
    guided.inject(injection((0, 1), fusion))
    guided.eval().requires_grad_(False)
    backbone = STDiT3(TINY)
    backbone.requires_grad_(False)  # like the other: attention takes another path for gradients
    backbone.load_state_dict({k: v for k, v in guided.state_dict().items() if not k.startswith("injection.")})
    given = inputs()
    condition = torch.randn_like(given["x_t"])
    assert torch.equal(guided(**given, condition=condition), backbone.eval()(**given))


def test_a_trained_injection_guides_only_the_samples_it_is_told_to() -> None:
    torch.manual_seed(0)
    model = awake(STDiT3(TINY, injection((0,))))
    assert model.injection is not None
    for parameter in model.injection.parameters():
        parameter.data = torch.randn_like(parameter) * 0.1
    given = inputs()
    condition = torch.randn_like(given["x_t"])
    plain, guided = model(**given), model(**given, condition=condition)
    mixed = model(**given, condition=condition, condition_mask=torch.tensor([True, False]))
    assert (guided - plain).abs().amax(dim=(1, 2, 3, 4)).min() > 1e-3
    torch.testing.assert_close(mixed[0], guided[0])
    torch.testing.assert_close(mixed[1], plain[1])


def test_a_condition_of_another_length_is_refused() -> None:
    model = STDiT3(TINY, injection((0,)))
    given = inputs()
    with pytest.raises(ValueError, match="condition"):
        model(**given, condition=given["x_t"][:, :, :1])


@pytest.mark.parametrize("fusion", ["adaptive_norm", "mlp_adapter", "controlnet"])
def test_every_parameter_of_the_injection_learns(fusion: str) -> None:
    torch.manual_seed(0)
    model = awake(STDiT3(TINY, injection((0, 1), fusion)))
    assert model.injection is not None
    model.injection.requires_grad_(True)
    for parameter in model.injection.parameters():
        parameter.data = torch.randn_like(parameter) * 0.1
    given = inputs()
    model(**given, condition=torch.randn_like(given["x_t"])).square().mean().backward()
    assert all(p.grad is not None and p.grad.any() for p in model.injection.parameters())


@torch.no_grad()
def test_controlnet_learns_copies_of_the_layers_that_it_is_given() -> None:
    torch.manual_seed(0)
    model = STDiT3(TINY, injection((0, 1), "controlnet"))
    awake(model)  # as if a checkpoint of the backbone had been loaded
    model.inject(injection((0, 1), "controlnet"))
    assert model.injection is not None
    control = model.injection.fusions["1"]
    for mine, own in ((control.spatial, model.spatial_blocks[1]), (control.temporal, model.temporal_blocks[1])):
        assert all(torch.equal(a, b) for a, b in zip(mine.parameters(), own.parameters(), strict=True))
    before = [parameter.clone() for parameter in model.spatial_blocks.parameters()]
    for parameter in control.parameters():
        parameter.add_(1)
    assert all(torch.equal(a, b) for a, b in zip(before, model.spatial_blocks.parameters(), strict=True))


def test_padding_of_the_text_does_not_matter_and_its_words_do() -> None:
    torch.manual_seed(0)
    model = awake(STDiT3(TINY))
    given = inputs()
    mask = torch.tensor([[1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1]])
    before = model(**given, text_mask=mask)
    changed = given["text"].clone()
    changed[0, 3:] += 5
    assert torch.allclose(model(**given | {"text": changed}, text_mask=mask), before, atol=1e-6)
    changed[0, 0] += 5
    assert not torch.allclose(model(**given | {"text": changed}, text_mask=mask)[0], before[0], atol=1e-4)


def test_uncertainty_sampling_is_for_training_only() -> None:
    torch.manual_seed(0)
    model = awake(STDiT3(TINY, injection((0, 1))))
    assert model.injection is not None
    for parameter in model.injection.parameters():
        parameter.data = torch.randn_like(parameter) * 0.1
    given = inputs()
    condition = torch.randn_like(given["x_t"])
    assert torch.equal(model(**given, condition=condition), model(**given, condition=condition))
    model.train()
    outputs = [model(**given, condition=condition) for _ in range(8)]
    assert any(not torch.equal(outputs[0], other) for other in outputs[1:])


def test_the_embedded_model_is_as_large_as_decided() -> None:
    with torch.device("meta"):
        model = STDiT3(DIORAMA.dit, DIORAMA.injection)
    assert 10e6 < sum(p.numel() for p in model.parameters()) < 16e6
