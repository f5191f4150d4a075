"""Which encoding a text has: told by its first bytes, or guessed from its words where one guess is sound.

A guess is taken only where the bytes look as one language's texts do in that encoding and in no other; in doubt
there is none. Which bytes are letters comes from Python's codecs.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable
from dataclasses import dataclass

WORD = re.compile(rb"[A-Za-z'\x80-\xff]*[\x80-\xff][A-Za-z'\x80-\xff]*")
"""A run of letters that holds a byte which is no ASCII."""
MANY = 20_000
"""How many words are looked at."""
WESTERN = frozenset("àâäáãåæçèéêëìíîïñòóôõöøœùúûüÿßÀÂÄÁÃÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØŒÙÚÛÜ")
MARKS = frozenset("’‘“”„–—…•©®™°«»¿¡£€½¼¾´·ºª§\xa0²×")
ALONE = "àéèêåöóÀÉÈÊÅÖÓ"
"""Letters that are words."""
KANA = ("\u3040", "\u30ff")
RUSSIAN = frozenset("оеаинтсрвл")
"""The ten most frequent letters: about three fifths of a Russian text."""
SAFE, APART = 0.9, 0.3
FEW = 12
"""Letters below which frequencies say nothing."""


@dataclass(frozen=True)
class Guess:
    """What the bytes of a text were taken for."""

    name: str | None
    """Of a Python codec; None where no guess is sound."""
    example: str = ""
    """A word as it reads in that encoding."""
    damaged: bool = False
    """UTF-8 in which a few bytes are wrong: rows that hold them are rejected."""


def from_start(start: bytes) -> str | None:
    """`utf-8`, `utf-16-le` or `utf-16-be`, where a byte order mark or NUL bytes say so at once."""
    for mark, name in (
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
    ):
        if start.startswith(mark):
            return name
    even, odd = start[::2].count(0), start[1::2].count(0)
    if 10 * (even + odd) < len(start):
        return None
    return "utf-16-le" if odd > 9 * even else "utf-16-be" if even > 9 * odd else None


def guess(pieces: Iterable[bytes]) -> Guess:
    """The encoding of a text that is not (only) UTF-8, from its lines that are not ASCII."""
    lines: list[bytes] = []
    words: list[bytes] = []
    for piece in pieces:
        if not piece.isascii():
            found = [line for line in piece.splitlines() if not line.isascii()]
            lines += found
            words += WORD.findall(b"\n".join(found))
        if len(words) > MANY:
            break
    right = [word for word in words if _decoded(word, "utf-8") is not None]
    if 2 * len(right) >= len(words):
        return Guess("utf-8", damaged=len(right) < len(words))
    if 20 * len(right) > len(words):
        return Guess(None)
    scores = {name: score(words) for name, score in SCORES.items()}
    scores["shift_jis"] = _shift_jis(b"\n".join(lines))
    best, second = sorted(scores, key=lambda name: -scores[name])[:2]
    if scores[best] < SAFE or scores[best] - scores[second] < APART:
        return Guess(None)
    if _decoded(b"\n".join(lines), best) is None:
        return Guess(None)
    texts = (_decoded(word, best) for line in lines for word in re.split(rb"[\s,;\"]+", line))
    return Guess(best, next((text for text in texts if text and not text.isascii()), "")[:40])


def _decoded(word: bytes, name: str) -> str | None:
    try:
        return word.decode(name)
    except UnicodeDecodeError:
        return None


def _western(words: list[bytes]) -> float:
    """cp1252: accented letters stand alone or in twos among plain ones; marks stand anywhere.

    A word of one letter, such as à, speaks neither for nor against it.
    """
    longer = [word for word in words if len(word) > 1 or chr(word[0]) not in ALONE]
    fits = 0
    for word in longer:
        text = _decoded(word, "cp1252") or "\0"
        high = [one for one in text if not one.isascii()]
        among = any(one.isascii() and one.isalpha() for one in text) or all(one in MARKS for one in high)
        cased = not re.search(r"[a-zà-ÿ][À-ÖØ-ß]", text.replace("ß", "s"))
        inside = re.search(r"[a-z][½¼¾´ºª²¿¡£×][a-z]", text)
        fits += among and cased and not inside and all(one in WESTERN or one in MARKS for one in high)
    return fits / len(longer) if longer else 0.0


def _russian(name: str, words: list[bytes]) -> float:
    """Words of Russian letters alone, capitals before small ones, the frequent letters frequent."""
    texts = [_decoded(word, name) or "" for word in words]
    fits = sum(bool(re.fullmatch(r"[«“„']?[А-ЯЁ]*[а-яё]*['»”—–…]?|[—–«»“”№]+", text)) for text in texts)
    letters = [one for text in texts for one in text.lower() if "а" <= one <= "я" or one == "ё"]
    if len(letters) < FEW:
        return 0.0
    frequent = sum(one in RUSSIAN for one in letters) / len(letters)
    return fits / len(words) * min(1.0, frequent / 0.5)


def _text(name: str, words: list[bytes]) -> str:
    """What is not ASCII in the words; nothing where less than nine words in ten can be decoded."""
    texts = [text for word in words if (text := _decoded(word, name)) is not None]
    return (
        "".join(one for text in texts for one in text if not one.isascii())
        if 10 * len(texts) >= 9 * len(words)
        else ""
    )


def _share(text: str, low: str, high: str) -> float:
    return sum(low <= one <= high for one in text) / len(text) if text else 0.0


def _chinese(words: list[bytes]) -> float:
    """gb18030: frequent characters, which fill the rows up to D7 (Korean ends at C8), and hardly any kana."""
    text = _text("gb2312", words)
    rows = [one.encode("gb2312")[0] for one in text]
    late = sum(0xC9 <= row <= 0xD7 for row in rows) > 0.15 * len(rows)
    if not rows or not late or _share(text, *KANA) > 0.1:
        return 0.0
    return sum(row <= 0xD7 for row in rows) / len(rows)


def _korean(words: list[bytes]) -> float:
    """euc-kr: syllables of Hangul."""
    text = _text("euc_kr", words)
    share = _share(text, "가", "힣")
    return share if len(text) >= FEW and share >= SAFE else 0.0


def _japanese(words: list[bytes]) -> float:
    """euc_jp: at least a fifth of the characters are kana."""
    return float(_share(_text("euc_jp", words), *KANA) > 0.2)


def _shift_jis(sample: bytes) -> float:
    """The same; the second byte of a character may be ASCII, so words of other encodings are of no use."""
    runs = re.findall(rb"(?:[\x81-\x9f\xe0-\xfc][\x40-\xfc])+", sample)
    text = _text("shift_jis", runs) if runs else ""
    rest = re.sub(rb"(?:[\x81-\x9f\xe0-\xfc][\x40-\xfc])+", b"", sample)
    high = len(re.findall(rb"[\x80-\xff]", sample))
    covered = 10 * len(re.findall(rb"[\x80-\xff]", rest)) <= high
    return float(_share(text, *KANA) > 0.2 and covered)


SCORES = {
    "cp1252": _western,
    "cp1251": lambda words: _russian("cp1251", words),
    "koi8-r": lambda words: _russian("koi8-r", words),
    "gb18030": _chinese,
    "euc-kr": _korean,
    "euc_jp": _japanese,
}
"""Encoding to the share of words that look as they do in it, from 0 to 1."""
