"""Text features of a published T5 encoder, with its own tokenizer: T5 v1.1 XXL for Open-Sora v1.2."""

import html
import pickle
import re
from pathlib import Path
from urllib.parse import unquote_plus

import torch
from torch import Tensor, nn
from transformers import AutoTokenizer, T5EncoderModel
from transformers.utils import logging

from arlon_cli.config import PublishedT5Config
from arlon_cli.errors import ArlonError, CheckpointError, first_line

_TAG = re.compile(r"</?[a-z][^<>]*>|<!--.*?-->")
_ADDRESS = re.compile(r"\b(?:https?://|www\.)\S+|\b[\w.-]+\.(?:com|net|org|edu|gov)\b\S*")
_NAME = re.compile(r"(?<!\S)@\w+")
_SIZE = re.compile(r"\b\d+(?:\.\d+)?[x×]\d+(?:\.\d+)?\b")
_HAN = re.compile(r"[\u31c0-\u9fff]+")
_ODD = re.compile(r"[#®•©™&@·º¿¡§~|*\\/\[\]{}()<>]+|\.{2,}")
_ALIKE = str.maketrans({**dict.fromkeys("‐‑‒–—―−", "-"), **dict.fromkeys("“”„«»`´", '"'), **dict.fromkeys("‘’‚", "'")})
_HYPHENS = str.maketrans("-_", "  ")
_MANY_HYPHENS = 4  # from which on they stand for spaces


def clean_prompt(prompt: str) -> str:
    """A prompt as Open-Sora v1.2 gives it to T5.

    Lower case, single spaces, one behind each comma and period; without markup, web addresses, @names, sizes in pixels,
    Chinese characters, and signs that captions have no use for.
    """
    text = unquote_plus(html.unescape(html.unescape(prompt))).lower()
    for pattern in (_TAG, _ADDRESS, _NAME, _SIZE, _HAN):
        text = pattern.sub(" ", text)
    text = _ODD.sub(" ", text.translate(_ALIKE))
    if text.count("-") + text.count("_") >= _MANY_HYPHENS:
        text = text.translate(_HYPHENS)
    text = " ".join(re.sub(r"(?<=\D[,.])(?=\w)", " ", text).split())
    text = re.sub(r" ([.,;:!?])(?!\S)", r"\1", text)  # where something was taken out before a mark
    return text.lstrip("'_,-:;").rstrip("'_,-:").strip()


class PublishedT5(nn.Module):
    """A T5 encoder as others published it; prompts are cleaned and get the configuration's suffix."""

    def __init__(self, config: PublishedT5Config, folder: Path, device: torch.device | str, dtype: torch.dtype) -> None:
        """Read a folder in the Hub's layout: safetensors, or else pickled files, of which only tensors are read.

        Raises CheckpointError where something in it is missing, damaged or of another size, and ArlonError where a
        package is missing.
        """
        super().__init__()
        self.config = config
        self.tokenizer = _load_tokenizer(folder)
        self.t5 = _load_encoder(folder, dtype).to(device)
        if self.t5.config.d_model != config.width:
            raise CheckpointError(f"The T5 in {folder} has width {self.t5.config.d_model} instead of {config.width}.")

    def encode(self, prompts: list[str]) -> tuple[Tensor, Tensor]:
        """Features (B, L, C) of the prompts and their mask (B, L), True where a token is.

        L is `max_tokens`: longer prompts are cut; features of padding are zero. "" is the null prompt.
        """
        tokens = self.tokenizer(
            [self._prepared(prompt) for prompt in prompts],
            max_length=self.config.max_tokens,
            padding="max_length",
            truncation=True,
            return_tensors="pt",
        ).to(self.t5.device)
        text_mask = tokens["attention_mask"].bool()
        text = self.t5(input_ids=tokens["input_ids"], attention_mask=text_mask).last_hidden_state
        return text * text_mask.unsqueeze(-1), text_mask

    def unknown_words(self, prompt: str) -> list[str]:
        """None: its vocabulary is of pieces of words."""
        return []

    def _prepared(self, prompt: str) -> str:
        if not prompt:
            return ""
        suffix = self.config.suffix
        says_it = suffix.partition(":")[0] + ":" in prompt.lower()
        return clean_prompt(prompt if says_it else f"{prompt} {suffix}")


def _load_tokenizer(folder: Path) -> "AutoTokenizer":
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except ImportError as error:
        raise ArlonError(
            "T5's vocabulary needs sentencepiece and protobuf; install them with `pip install 'arlon[opensora]'`."
        ) from error
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"The tokenizer in {folder} cannot be read: {first_line(error)}") from error


def _load_encoder(folder: Path, dtype: torch.dtype) -> T5EncoderModel:
    safe = any(folder.glob("*.safetensors"))
    logging.disable_progress_bar()
    try:
        model, found = T5EncoderModel.from_pretrained(
            folder,
            torch_dtype=dtype,
            use_safetensors=safe,
            weights_only=True,
            local_files_only=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, RuntimeError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"The T5 in {folder} cannot be read: {first_line(error)}") from error
    if missing := sorted(found["missing_keys"]):
        raise CheckpointError(f"The T5 in {folder} lacks the tensor {missing[0]}.")
    if extra := sorted(found["unexpected_keys"]):
        raise CheckpointError(f"The T5 in {folder} has the tensor {extra[0]}, which the model does not know.")
    return model.eval().requires_grad_(False)
