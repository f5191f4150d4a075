"""Search of an artefact's items by title; popular items come first."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from ..artifact.ids import Array
from ..artifact.session import Session

MAX_QUERY = 200
"""Characters of a query that are read."""


class TitleIndex:
    """Items in order of popularity, found by words of their titles.

    Args:
        ids: raw item ids, as text.
        titles: raw id to title; what has none is searched by its id.
    """

    def __init__(self, ids: Sequence[str], titles: Mapping[str, str]) -> None:
        self.ids, self.titles = [*dict.fromkeys([*ids, *titles])], titles
        self.known = frozenset(self.ids)
        folded = [fold(titles.get(item, item)) for item in self.ids]
        self._text = "\n" + "\n".join(folded) + "\n"
        lengths = np.fromiter(map(len, folded), np.int64, len(folded)) + 1
        self._starts: Array = np.cumsum(lengths) - lengths  # of the line break before each

    def search(self, words: str, most: int) -> list[str]:
        """Ids of items whose title holds the words: titles that begin with them first, then by popularity."""
        wanted = fold(words[:MAX_QUERY])
        found = dict.fromkeys([words] if words in self.known else [])
        for mark in ("\n", " ", "") if wanted else ("\n",):
            for place in self._places(mark + wanted):
                if len(found) >= most:
                    return list(found)
                found[self.ids[place]] = None
        return list(found)[:most]

    def _places(self, part: str) -> Iterator[int]:
        """Positions of the items whose line holds the part, each once, in order."""
        at = self._text.find(part)
        while 0 <= at < len(self._text) - 1:
            place = int(np.searchsorted(self._starts, at, side="right")) - 1
            yield place
            end = self._text.find("\n", at + 1)
            at = self._text.find(part, end)


def title_index_of(session: Session) -> TitleIndex:
    """The index of an artefact's items, popular ones first."""
    return TitleIndex(session.item_ids, session.titles)


def fold(text: str) -> str:
    """Text in the form in which titles are compared: no case, accents, line breaks or outer blanks."""
    if not text.isascii():
        text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return " ".join(text.casefold().split())
