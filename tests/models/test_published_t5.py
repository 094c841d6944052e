"""A published T5, here a tiny one that the test writes as transformers does, is read from its folder alone."""

import os
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

from arlon_cli.config import PublishedT5Config, TextEncoderConfig
from arlon_cli.errors import CheckpointError
from arlon_cli.models.published_t5 import PublishedT5, clean_prompt
from arlon_cli.models.text_encoder import build_tokenizer

CONFIG = PublishedT5Config(width=16, max_tokens=10, suffix="score: 6.", num_parameters=0)


def save_tiny_t5(folder: Path) -> T5EncoderModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = T5EncoderModel(
            T5Config(
                vocab_size=64,
                d_model=16,
                d_kv=8,
                d_ff=16,
                num_layers=1,
                num_heads=2,
                feed_forward_proj="gated-gelu",
                dropout_rate=0.0,
            )
        )
    model.save_pretrained(folder)
    words: Tokenizer = build_tokenizer(["a red hill by the sea score 6"], TextEncoderConfig(64, 16, 1, 2, 16, 12))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
    tokenizer.save_pretrained(folder)
    return model.eval()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_tiny_t5(tmp_path / "t5")
    return tmp_path / "t5"


def load(folder: Path, config: PublishedT5Config = CONFIG) -> PublishedT5:
    return PublishedT5(config, folder, "cpu", torch.float32)


def test_features_are_those_of_the_cleaned_prompt_with_its_suffix(tmp_path: Path) -> None:
    model = save_tiny_t5(tmp_path)
    encoder = load(tmp_path)
    with torch.no_grad():
        text, mask = encoder.encode(["A  RED hill", ""])
        ids = encoder.tokenizer("a red hill score: 6.", return_tensors="pt")["input_ids"]
        expected = model(input_ids=ids).last_hidden_state
    assert text.shape == (2, 10, 16)
    assert mask.sum(dim=1).tolist() == [8, 1]  # seven words and marks; nothing but the end for the null prompt
    torch.testing.assert_close(text[:1, :8], expected)
    assert not text[0, 8:].any()
    assert encoder.unknown_words("xyzzy") == []


def test_a_prompt_that_states_its_score_keeps_it(folder: Path) -> None:
    with torch.no_grad():
        own, same, other = (
            load(folder).encode([prompt])[1].sum() for prompt in ("a hill score: 6.", "a hill", "a red hill")
        )
    assert own == same < other


def test_long_prompts_are_cut(folder: Path) -> None:
    with torch.no_grad():
        text, mask = load(folder).encode(["hill " * 50])
    assert text.shape == (1, 10, 16)
    assert mask.all()


def test_pickled_tensors_are_read_and_nothing_else_that_is_pickled(folder: Path, tmp_path: Path) -> None:
    encoder = load(folder)
    (folder / "model.safetensors").unlink()
    torch.save(encoder.t5.state_dict(), folder / "pytorch_model.bin")
    pickled = load(folder)
    assert all(torch.equal(a, b) for a, b in zip(pickled.parameters(), encoder.parameters(), strict=True))

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "harm"),)

    torch.save({"shared.weight": Evil()}, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load(folder)
    assert not (tmp_path / "harm").exists()


def test_safetensors_win_over_a_pickle(folder: Path) -> None:
    encoder = load(folder)
    other = {name: value + 1 for name, value in encoder.t5.state_dict().items()}
    torch.save(other, folder / "pytorch_model.bin")
    assert all(torch.equal(a, b) for a, b in zip(load(folder).parameters(), encoder.parameters(), strict=True))


def test_what_is_wrong_with_the_folder_is_named(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="width 16 instead of 32"):
        load(folder, PublishedT5Config(width=32, max_tokens=10, suffix="", num_parameters=0))
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"T5 in .* cannot be read"):
        load(folder)
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"tokenizer in .* cannot be read"):
        load(folder)


def test_a_missing_tensor_is_named(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    del tensors["encoder.final_layer_norm.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"lacks the tensor encoder\.final_layer_norm\.weight"):
        load(folder)


@pytest.mark.parametrize(
    ("prompt", "cleaned"),
    [
        ("  A Red\n\tHill ", "a red hill"),
        ("see https://example.com/a?b=1 and www.x.org, a hill", "see and a hill"),
        ("photos.example.com/hill.jpg a hill", "a hill"),
        ("<p>A <b>red</b> hill</p>", "a red hill"),
        ("fish &amp; chips &lt;i&gt;fresh&lt;/i&gt;", "fish chips fresh"),
        ("by @someone, at 5:30", "by, at 5:30"),
        ("a well–lit “red” hill’s top", 'a well-lit "red" hill\'s top'),
        ("a hill (red) [4k]...", "a hill red 4k"),
        ("aesthetic score: 6.5.", "aesthetic score: 6.5."),
        ("A state-of-the-art, close-up, slow-motion shot", "a state of the art, close up, slow motion shot"),
        ("a cat-like robot", "a cat-like robot"),
        ("left,then right in the U.S.A., f/2.8, 10.5 km", "left, then right in the u. s. a., f 2.8, 10.5 km"),
        ("It`s 1920x1080 一只猫 in snow + fog", 'it"s in snow fog'),
    ],
)
def test_prompts_are_cleaned(prompt: str, cleaned: str) -> None:
    assert clean_prompt(prompt) == cleaned
    assert clean_prompt(cleaned) == cleaned
