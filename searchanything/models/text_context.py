"""A text tower reads so many tokens of a text, its context, and not a word beyond."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

Tokenizer = Callable[[Sequence[str]], Tensor]  # texts -> (N, context), filled up on the right


def beginning_read(tokenizer: Tokenizer, text: str) -> str:
    """What of a text counts: all of it, or the beginning after which nothing changes the tokens any more."""
    whole = text.rstrip()
    row, nothing = tokenizer([whole, ""])
    if row[-1] == nothing[-1]:  # it is filled up: there is room left
        return text
    low, high = 0, len(whole)  # the shortest beginning of the same tokens
    while low < high:
        middle = (low + high) // 2
        if (tokenizer([whole[:middle]])[0] == row).all():
            high = middle
        else:
            low = middle + 1
    return text if low == len(whole) else whole[:low]
