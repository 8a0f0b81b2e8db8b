"""A tokenizer out of a `tokenizer.json`, as the library `tokenizers` reads it; nothing is ever downloaded."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from searchanything.core.errors import ModelError
from searchanything.core.libraries import importing

_PADDING: Final = "<pad>"
_FIRST, _LAST = "<bos>", "<eos>"  # of a text: SigLIP 2 was trained on texts that end with the one, without the other


class FileTokenizer:
    """Texts -> (N, context) int64, as open_clip's `HFTokenizer` gives them: cleaned, cut off, padded on the right."""

    def __init__(self, path: Path, *, context: int, clean: Callable[[str], str]) -> None:
        """`clean` is what happens to a text first. Raises: LibraryError, ModelError."""
        self._tokenizer = _read(path)
        padding = self._tokenizer.token_to_id(_PADDING)
        if padding is None:
            raise ModelError(f"{path} has no token {_PADDING} to fill texts up with; fetch it again")
        _check_frame(self._tokenizer.encode("a").tokens, path)
        self._tokenizer.enable_truncation(max_length=context)
        self._tokenizer.enable_padding(length=context, pad_id=padding, pad_token=_PADDING)
        self._clean = clean

    def __call__(self, texts: Sequence[str]) -> Tensor:
        encoded = self._tokenizer.encode_batch([self._clean(text) for text in texts])
        return torch.tensor([one.ids for one in encoded], dtype=torch.int64).reshape(len(texts), -1)


def _check_frame(tokens: Sequence[str], path: Path) -> None:
    """What a file adds to a text decides what the text tower sees, and files of one vocabulary differ in it.

    Raises: ModelError unless a text ends with `_LAST` and does not begin with `_FIRST`.
    """
    if tokens[:1] == [_FIRST] or tokens[-1:] != [_LAST]:
        raise ModelError(
            f"{path} turns the text a into {' '.join(tokens) or 'nothing'}; expected no {_FIRST} before it and {_LAST} "
            "after it, as the encoder was trained; fetch the tokenizer.json of the encoder's own repository"
        )


def _read(path: Path) -> Any:  # noqa: ANN401 - the library is not typed
    with importing():
        from tokenizers import Tokenizer
    try:
        return Tokenizer.from_str(json.dumps(json.loads(path.read_text(encoding="utf-8"))))
    except Exception as error:  # the library raises nothing narrower
        raise ModelError(f"{path} is no tokenizer file: {error}; fetch it again") from error
