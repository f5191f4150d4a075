"""Known public sets and where their publishers keep them; nothing is mirrored."""

from __future__ import annotations

from dataclasses import dataclass

GROUPLENS = "https://files.grouplens.org/datasets/movielens"
AMAZON_2014 = "https://snap.stanford.edu/data/amazon/productGraph/categoryFiles"
AMAZON_2023 = "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_2023/raw"
_MOVIELENS = "GroupLens: research use, no commercial use without permission; see the README inside"
_AMAZON = "published by the McAuley Lab (UCSD) for research; the site states no licence"
_MIND = "Microsoft Research Licence: non-commercial use"


@dataclass(frozen=True)
class Known:
    """One public set."""

    reader: str
    licence: str
    page: str
    """Where the publisher describes it."""
    urls: tuple[str, ...] = ()
    inner: str = ""
    """Folder inside the archive."""
    checksums: bool = False
    """Whether the publisher puts a `.md5` file beside each file."""
    manual: str = ""
    """Why it cannot be fetched by a program, where that is so."""


def _movielens(name: str) -> Known:
    page = "https://grouplens.org/datasets/movielens/"
    return Known("movielens", _MOVIELENS, page, (f"{GROUPLENS}/{name}.zip",), name, True)


_MIND_SET = Known(
    "mind", _MIND, "https://msnews.github.io/", manual="its terms are accepted on the publisher's page"
)

KNOWN: dict[str, Known] = {
    "ml-100k": _movielens("ml-100k"),
    "ml-1m": _movielens("ml-1m"),
    "ml-10m": Known(
        "movielens", _MOVIELENS, "https://grouplens.org/datasets/movielens/10m/",
        (f"{GROUPLENS}/ml-10m.zip",), "ml-10M100K", True,
    ),
    "ml-20m": _movielens("ml-20m"),
    "ml-25m": _movielens("ml-25m"),
    "ml-32m": _movielens("ml-32m"),
    "ml-latest-small": _movielens("ml-latest-small"),
    "ml-latest": _movielens("ml-latest"),
    "amazon-2014-beauty": Known(
        "amazon", _AMAZON, "https://jmcauley.ucsd.edu/data/amazon/",
        (f"{AMAZON_2014}/reviews_Beauty_5.json.gz", f"{AMAZON_2014}/meta_Beauty.json.gz"),
    ),
    "amazon-2023-beauty": Known(
        "amazon", _AMAZON, "https://amazon-reviews-2023.github.io/",
        (
            f"{AMAZON_2023}/review_categories/All_Beauty.jsonl.gz",
            f"{AMAZON_2023}/meta_categories/meta_All_Beauty.jsonl.gz",
        ),
    ),
    "mind-small": _MIND_SET,
    "mind-large": _MIND_SET,
}  # fmt: skip
"""Name on the command line to set."""
