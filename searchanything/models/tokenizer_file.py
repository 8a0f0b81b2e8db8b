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


class FileTokenizer:
    """Texts -> (N, context) int64, as open_clip's `HFTokenizer` gives them: cleaned, cut off, padded on the right."""

    def __init__(self, path: Path, *, context: int, clean: Callable[[str], str]) -> None:
        """`clean` is what happens to a text first. Raises: LibraryError, ModelError."""
        self._tokenizer = _read(path)
        padding = self._tokenizer.token_to_id(_PADDING)
        if padding is None:
            raise ModelError(f"{path} has no token {_PADDING} to fill texts up with; fetch it again")
        self._tokenizer.enable_truncation(max_length=context)
        self._tokenizer.enable_padding(length=context, pad_id=padding, pad_token=_PADDING)
        self._clean = clean

    def __call__(self, texts: Sequence[str]) -> Tensor:
        encoded = self._tokenizer.encode_batch([self._clean(text) for text in texts])
        return torch.tensor([one.ids for one in encoded], dtype=torch.int64).reshape(len(texts), -1)


def _read(path: Path) -> Any:  # noqa: ANN401 - the library is not typed
    with importing():
        from tokenizers import Tokenizer
    try:
        return Tokenizer.from_str(json.dumps(json.loads(path.read_text(encoding="utf-8"))))
    except Exception as error:  # the library raises nothing narrower
        raise ModelError(f"{path} is no tokenizer file: {error}; fetch it again") from error
