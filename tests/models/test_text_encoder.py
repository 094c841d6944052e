import pytest
import torch
from tokenizers import Tokenizer

from arlon_cli.config import TextEncoderConfig
from arlon_cli.errors import InputError
from arlon_cli.models.text_encoder import TextEncoder, build_tokenizer

CONFIG = TextEncoderConfig(vocab_size=32, width=16, num_layers=2, num_heads=2, ffn_width=24, max_tokens=8)
WORDS = ["A volcano", "erupting", "half-moon", "volcano", "café"]


@pytest.fixture
def encoder() -> TextEncoder:
    torch.manual_seed(0)
    return TextEncoder(CONFIG, build_tokenizer(WORDS, CONFIG)).eval()


def test_tokenizer_survives_its_serialisation(encoder: TextEncoder) -> None:
    again = Tokenizer.from_str(encoder.tokenizer.to_str())
    prompt = "A Volcano, erupting: half-moon!"
    assert again.encode(prompt).ids == encoder.tokenizer.encode(prompt).ids
    again.no_truncation()
    again.no_padding()
    assert again.encode(prompt).tokens == ["a", "volcano", ",", "erupting", ":", "half", "-", "moon", "!", "</s>"]


def test_special_tokens_have_their_ids_and_are_no_words(encoder: TextEncoder) -> None:
    assert [encoder.tokenizer.token_to_id(token) for token in ("<pad>", "</s>", "<unk>")] == [0, 1, 2]
    assert encoder.tokenizer.encode("a <pad>").ids.count(0) == 8 - 5  # a < pad > </s>


def test_long_prompt_is_cut_before_its_end_token(encoder: TextEncoder) -> None:
    encoding = encoder.tokenizer.encode("volcano " * 20)
    assert len(encoding.ids) == 8
    assert encoding.tokens[-1] == "</s>"


def test_null_prompt_is_the_end_token_alone(encoder: TextEncoder) -> None:
    text, mask = encoder.encode([""])
    assert mask.tolist() == [[True] + [False] * 7]
    assert text[0, 0].abs().sum() > 0


def test_features_of_padding_are_zero_and_of_no_effect(encoder: TextEncoder) -> None:
    text, mask = encoder.encode(["a volcano", "a volcano erupting, half-moon"])
    assert text.shape == (2, 8, 16)
    assert text[~mask].abs().max() == 0
    longer = TextEncoder(TextEncoderConfig(**{**vars(CONFIG), "max_tokens": 20}), build_tokenizer(WORDS, CONFIG)).eval()
    longer.load_state_dict(encoder.state_dict())
    torch.testing.assert_close(longer.encode(["a volcano"])[0][:, :3], text[:1, :3])


def test_features_depend_on_the_order_of_words(encoder: TextEncoder) -> None:
    text, _ = encoder.encode(["volcano erupting", "erupting volcano"])
    assert not torch.allclose(text[0, 2], text[1, 2], atol=1e-4)


def test_unknown_words_as_written_in_order_each_once(encoder: TextEncoder) -> None:
    prompt = "A Dragon, erupting… Café VOLCANO — dragon sings; a Dragon beside the Zeppelin"
    assert encoder.unknown_words(prompt) == ["Dragon", "sings", "beside", "the", "Zeppelin"]
    assert encoder.unknown_words("a volcano (erupting)") == []
    assert encoder.unknown_words("") == []


def test_vocabulary_that_does_not_fit_names_both_numbers() -> None:
    with pytest.raises(InputError, match=r"44 words.*holds 32"):
        build_tokenizer([f"word{number}" for number in range(30)], CONFIG)


def test_state_dict_loads_strictly_into_a_model_on_meta(encoder: TextEncoder) -> None:
    state = encoder.state_dict()
    assert len({tensor.data_ptr() for tensor in state.values()}) == len(state)
    with torch.device("meta"):
        loaded = TextEncoder(CONFIG, build_tokenizer(WORDS, CONFIG)).eval()
    loaded.load_state_dict(state, strict=True, assign=True)
    assert torch.equal(loaded.encode(["a volcano"])[0], encoder.encode(["a volcano"])[0])


def test_gradients_reach_every_parameter(encoder: TextEncoder) -> None:
    text, _ = encoder.train().encode(["a volcano erupting"])
    text.square().sum().backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())


def test_bfloat16(encoder: TextEncoder) -> None:
    text, _ = encoder.encode(["a volcano"])
    low, _ = encoder.bfloat16().encode(["a volcano"])
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), text, atol=0.1, rtol=0.1)
