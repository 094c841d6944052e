"""The T5 encoder is the published one: transformers' network, with the same weights, says the same."""

import pytest
import torch
from transformers import T5Config, T5EncoderModel

from arlon_cli.config import TextEncoderConfig
from arlon_cli.models.t5 import T5Encoder

CONFIG = TextEncoderConfig(vocab_size=50, width=32, num_layers=3, num_heads=4, ffn_width=48, max_tokens=160)
PUBLISHED = T5Config(
    vocab_size=50,
    d_model=32,
    d_kv=8,
    d_ff=48,
    num_layers=3,
    num_heads=4,
    dropout_rate=0.0,
    feed_forward_proj="gated-gelu",
)


@pytest.fixture(scope="module")
def twins() -> tuple[T5Encoder, T5EncoderModel]:
    torch.manual_seed(0)
    published = T5EncoderModel(PUBLISHED).eval()
    own = T5Encoder(CONFIG).eval()
    weights = {name: value for name, value in published.state_dict().items() if name != "encoder.embed_tokens.weight"}
    own.load_state_dict(weights)  # name for name
    return own, published


@pytest.mark.parametrize("length", [1, 9, 160])  # 160: farther apart than the farthest bucket begins
@torch.no_grad()
def test_features_are_those_of_the_published_network(twins: tuple[T5Encoder, T5EncoderModel], length: int) -> None:
    own, published = twins
    ids = torch.randint(0, 50, (3, length), generator=torch.Generator().manual_seed(length))
    mask = torch.arange(length) < torch.tensor([[length], [max(1, length // 2)], [1]])
    expected = published(input_ids=ids, attention_mask=mask).last_hidden_state
    torch.testing.assert_close(own(ids, mask)[mask], expected[mask], rtol=1e-5, atol=1e-5)


def test_new_weights_are_as_wide_as_the_published_networks() -> None:
    torch.manual_seed(0)
    own, published = T5Encoder(CONFIG).state_dict(), T5EncoderModel(PUBLISHED).state_dict()
    matrices = {name: value for name, value in own.items() if value.ndim == 2}
    assert len(matrices) == 3 * 7 + 2
    for name, value in matrices.items():
        assert float(value.std()) == pytest.approx(float(published[name].std()), rel=0.2), name
