"""Text features: a T5 v1.1 encoder behind a word-level tokenizer."""

import unicodedata
from collections.abc import Iterable

import torch
from tokenizers import Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import WordLevel
from tokenizers.processors import TemplateProcessing
from torch import Tensor, nn
from torch.nn import functional as F

from arlon_cli.config import TextEncoderConfig
from arlon_cli.errors import InputError
from arlon_cli.models.t5 import T5Encoder

PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"
SPECIAL_TOKENS = (PAD, END, UNKNOWN)
PUNCTUATION = ".,;:!?'\"-()"


def build_tokenizer(words: Iterable[str], config: TextEncoderConfig) -> Tokenizer:
    """Tokenizer of lower-cased words and single punctuation marks, `</s>` at the end.

    `words` may hold several words in one string and repeat themselves; ids follow their order, after the special tokens
    and the common punctuation marks. Raises InputError where they are more than `config.vocab_size`.
    """
    normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    splitter = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation("isolated")])
    pieces = [piece for word in words for piece, _ in splitter.pre_tokenize_str(normalizer.normalize_str(word))]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys((*SPECIAL_TOKENS, *PUNCTUATION, *pieces)))}
    if len(vocabulary) > config.vocab_size:
        raise InputError(
            f"The vocabulary has {len(vocabulary)} words and marks, but the text encoder holds {config.vocab_size}; "
            "use captions with fewer different words or a larger vocab_size."
        )
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = splitter
    tokenizer.post_processor = TemplateProcessing(single=f"$A {END}", special_tokens=[(END, vocabulary[END])])
    return tokenizer


class TextEncoder(nn.Module):
    """T5 v1.1 encoder (gated GELU, relative positions; Raffel et al., 2020) with its tokenizer.

    The tokenizer has `<pad>`, `</s>` and `<unk>` and appends `</s>` itself; `build_tokenizer` makes one of words.
    """

    def __init__(self, config: TextEncoderConfig, tokenizer: Tokenizer) -> None:
        super().__init__()
        tokenizer.enable_truncation(config.max_tokens)
        tokenizer.enable_padding(length=config.max_tokens, pad_id=tokenizer.token_to_id(PAD), pad_token=PAD)
        self.config = config
        self.tokenizer = tokenizer
        self.t5 = T5Encoder(config)

    def encode(self, prompts: list[str]) -> tuple[Tensor, Tensor]:
        """Features (B, L, C) of the prompts and their mask (B, L), True where a token is.

        L is `max_tokens`: longer prompts are cut, `</s>` kept; features of padding are zero. "" is the null prompt.
        """
        encodings = self.tokenizer.encode_batch(prompts)
        device = self.t5.shared.weight.device
        ids = torch.tensor([encoding.ids for encoding in encodings], device=device)
        text_mask = torch.tensor([encoding.attention_mask for encoding in encodings], dtype=torch.bool, device=device)
        longest = int(text_mask.sum(dim=1).max())  # nothing is computed where all prompts are padded
        used = text_mask[:, :longest]
        text = self.t5(ids[:, :longest], used)
        return F.pad(text * used.unsqueeze(-1), (0, 0, 0, ids.shape[1] - longest)), text_mask

    def unknown_words(self, prompt: str) -> list[str]:
        """The prompt's words that the vocabulary lacks: as written, in order, each once; punctuation does not count."""
        unknown = self.tokenizer.token_to_id(UNKNOWN)
        encoding = self.tokenizer.encode(prompt)
        words: dict[str, str] = {}
        for part in (encoding, *encoding.overflowing):
            for token, (start, end) in zip(part.ids, part.offsets, strict=True):
                word = prompt[start:end]
                if token == unknown and not unicodedata.category(word[0]).startswith("P"):
                    words.setdefault(word.lower(), word)
        return list(words.values())
