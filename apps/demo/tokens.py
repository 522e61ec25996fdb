# SPDX-License-Identifier: Apache-2.0
"""WordPiece tokens of lower-case English text, as BERT models take them."""

import pathlib
import re
import unicodedata


def load_vocabulary(path: pathlib.Path) -> dict[str, int]:
    with open(path, encoding="utf-8") as lines:
        return {line.rstrip("\n"): number for number, line in enumerate(lines)}


def word_pieces(word: str, vocabulary: dict[str, int]) -> list[int]:
    """The longest known pieces from left to right; [UNK] if there is a gap."""
    pieces, start = [], 0
    while start < len(word):
        for end in range(len(word), start, -1):
            piece = ("##" if start else "") + word[start:end]
            if piece in vocabulary:
                pieces.append(vocabulary[piece])
                start = end
                break
        else:
            return [vocabulary["[UNK]"]]
    return pieces


def tokenize(text: str, vocabulary: dict[str, int]) -> list[int]:
    plain = unicodedata.normalize("NFD", text.lower())
    plain = "".join(c for c in plain if unicodedata.category(c) != "Mn")
    words = re.findall(r"\w+|[^\w\s]", plain)
    return [piece for word in words for piece in word_pieces(word, vocabulary)]


def windows(tokens: list[int], length: int, count: int, vocabulary: dict[str, int]) -> list[list[int]]:
    """`count` consecutive stretches of `length` tokens, each between [CLS] and [SEP]."""
    inner = length - 2
    if len(tokens) < inner * count:
        raise ValueError(f"the text has {len(tokens)} tokens; {inner * count} are needed")
    first, last = vocabulary["[CLS]"], vocabulary["[SEP]"]
    return [[first, *tokens[i * inner : (i + 1) * inner], last] for i in range(count)]
