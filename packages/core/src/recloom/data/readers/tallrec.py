"""TALLRec's prompts: titles that a user liked and disliked, a target, and whether it was liked, as JSON.

K. Bao et al., TALLRec: An Effective and Efficient Tuning Framework to Align Large Language Model with Recommendation,
RecSys 2023. The prompts name neither users nor times.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import polars as pl

from ...errors import DataError
from . import RawTables, no_rejections, prepare_command
from .jsonlines import first_objects, read_json_lines
from .parts import joined_notes, part_files, part_of
from .text import rejections
from .values import part_rows

KEYS = ("input", "output")
PROMPT = (
    r"(?s)^\s*User Preference:(?<liked>.*)\nUser Unpreference:(?<disliked>.*)\n"
    r"Whether the user will like the target [^\n\"]+ \"(?<target>.*)\"\?\s*$"
)
BY = '" written by '
"""Between the title of a book and its author."""
LISTS = ("liked", "disliked")


class TALLRec:
    """TALLRec's JSON (instruction, input, output): liked and disliked titles before a target; a folder of its parts.

    Args:
        tables: of a folder, the files to read, where it holds those of several sets.
    """

    name: ClassVar[str] = "tallrec"
    licence: ClassVar[str] = "TALLRec: Apache-2.0; the sets behind its prompts have terms of their own"
    url: ClassVar[str | None] = "https://github.com/SAI990323/TALLRec"

    def __init__(self, tables: list[str] | None = None) -> None:
        self.tables = tables or []

    @classmethod
    def sniff(cls, path: Path) -> bool:
        """Whether the first prompts name what a user liked and disliked, and a target."""
        return bool(_prompt_files(path))

    def read(self, path: Path) -> RawTables:
        """Read each prompt as a user of its own, whose history comes before the target; titles are the items.

        Values are 1 for liked and 0 for disliked. Of files that are parts of a split, the targets have the part of
        their file; histories of validation and test are `context`, so that none of their labels is trained on.
        """
        files = self._files(path)
        tables = [_read(file, place) for place, file in enumerate(files)]
        rows = pl.concat([rows for rows, _, _ in tables])
        if not part_files(files):
            rows = rows.drop("part")
        names = ("item_id", "title", "author")
        items = rows.select(names).unique("item_id", keep="first", maintain_order=True)
        rejected = pl.concat([no_rejections(), *(bad for _, bad, _ in tables)])
        raw = RawTables(rows.drop("title", "author", "target"), files, rejected=rejected)
        raw.items = items if items["author"].null_count() < items.height else items.drop("author")
        prompts, windows = int(rows["target"].sum()), sum(count for *_, count in tables)
        raw.notes += [
            f"{prompts:,} prompts became {rows.height:,} interactions, labelled 1 (liked) and 0 (not)",
            f"lost, since prompts do not hold it: ids of items (their {items.height:,} titles stand for them, and two "
            f"items of one title are one), times, and who the users are: each of {prompts:,} prompts is a user",
            "lost: the order of liked among disliked titles; the two lists of a prompt are interleaved evenly",
        ]
        if windows:
            raw.notes.append(
                f"warning: {windows:,} prompts hold the target of the prompt before them in their history, with its "
                "label, so they are of the same person; intervals over users take them for independent"
            )
        if part_files(files):
            raw.notes += joined_notes(files)
            raw.notes.append("histories of validation and test are `context`: no model is trained on them")
        return raw

    def _files(self, path: Path) -> list[Path]:
        found = _prompt_files(path)
        if self.tables:
            absent = [name for name in self.tables if name not in {file.name for file in found}]
            if absent:
                raise DataError(
                    f"{path} holds no prompts called {absent[0]!r} (--tables). It has "
                    f"{', '.join(file.name for file in found) or 'none'}."
                )
            return [file for name in self.tables for file in found if file.name == name]
        if not found:
            raise DataError(
                f"{path}: expected JSON objects of instruction, input and output, whose input begins with "
                "'User Preference:'. Check --path."
            )
        if len(found) == 1:
            return found
        sets = part_files(found)
        if len(sets) == 1 and len(sets[0]) == len(found):
            return sets[0]
        groups = [[file.name for file in files] for files in sets]
        groups += [[file.name] for file in found if not any(file in files for files in sets)]
        asked = "".join(f"\n  {prepare_command(self.name, path, {'tables': names})}" for names in groups)
        raise DataError(f"{path} holds the prompts of several sets. Name the one meant:{asked}")


def _prompt_files(path: Path) -> list[Path]:
    """The file itself or the JSON files of a folder, those that hold prompts."""
    files = [path] if path.is_file() else sorted(path.glob("*.json*"))
    return [file for file in files if file.is_file() and ".json" in file.suffixes and _holds_prompts(file)]


def _holds_prompts(file: Path) -> bool:
    try:
        some = first_objects(file, objects=5)
    except DataError:
        return False
    texts = pl.Series([one.get("input") if isinstance(one.get("input"), str) else None for one in some])
    whole = bool(some) and all("output" in one for one in some)
    return whole and texts.dtype == pl.String and bool(texts.str.contains(PROMPT).fill_null(False).all())


def _read(path: Path, place: int) -> tuple[pl.DataFrame, pl.DataFrame, int]:
    """A row for each title, in order; rejected prompts; and how many hold the target before them in their history."""
    frame, broken = read_json_lines(path, KEYS)
    prompts = frame.with_columns(pl.col("input").str.extract_groups(PROMPT).alias("said")).unnest("said")
    answer = pl.col("output").str.strip_chars(" .\n").str.to_lowercase()
    target = pl.col("target").str.strip_chars()
    prompts = prompts.with_columns(
        *(_titles(name) for name in LISTS),
        pl.when(target.str.contains(BY, literal=True)).then(target.str.strip_prefix('"')).otherwise(target),
        pl.when(answer == "yes").then(1.0).when(answer == "no").then(0.0).cast(pl.Float32).alias("value"),
    ).with_row_index("number", 1)
    checks = [
        (
            pl.col("target").is_null(),
            "input is no prompt such as User Preference: ... User Unpreference: ...",
        ),
        (pl.col("target") == "", "the target is empty"),
        (pl.col("value").is_null(), "output is neither Yes. nor No."),
        (_any_unclear(), "titles cannot be told apart"),
    ]
    good, failed = part_rows(prompts.drop("input", "output"), checks)
    bad = pl.concat([broken, rejections(path, failed["line"], failed["reason"])])
    said = part_of(path)
    part = "train" if said is None else said[0]
    before = pl.concat([_history(good, name, value) for name, value in (("liked", 1.0), ("disliked", 0.0))])
    asked = good.select(
        "number",
        "line",
        pl.col("target").alias("item"),
        "value",
        pl.lit(2.0).alias("place"),
        pl.lit(True).alias("target"),
    )
    rows = pl.concat([before, asked.select(before.columns)]).sort(
        "number", "place", "value", maintain_order=True
    )
    held = "train" if part == "train" else "context"
    title = pl.col("item").str.splitn(BY, 2).struct
    rows = rows.select(
        pl.format("{}/{}", pl.lit(path.stem), pl.col("number")).alias("user_id"),
        pl.col("item").str.replace(BY, " written by ", literal=True).alias("item_id"),
        "value",
        pl.when("target").then(pl.lit(part)).otherwise(pl.lit(held)).alias("part"),
        pl.lit(place, pl.UInt16).alias("file"),
        "line", "target",
        title.field("field_0").alias("title"), title.field("field_1").alias("author"),
    )  # fmt: skip
    return rows, bad, _windows(good)


def _titles(name: str) -> pl.Expr:
    """A list as it is printed, taken apart: `"A", "B"`, or with authors behind the titles `"A" written by X, ...`."""
    text = pl.col(name).str.strip_chars()
    books = pl.concat_str(pl.lit(", "), text).str.split(', "').list.slice(1)
    films = text.str.strip_prefix('"').str.strip_suffix('"').str.split('", "')
    return pl.when(text == "").then(pl.lit([], pl.List(pl.String))).when(
        text.str.contains(BY, literal=True)
    ).then(books).otherwise(films).alias(name)  # fmt: skip


def _any_unclear() -> pl.Expr:
    """Whether a list has a title that is empty, or one without an author beside one with an author."""
    return pl.any_horizontal(
        check
        for name in LISTS
        for items in [pl.col(name).list]
        for check in (
            items.eval(pl.element().str.strip_chars() == "").list.any(),
            items.eval(pl.element().str.contains(BY, literal=True)).list.any()
            & ~items.eval(pl.element().str.contains(BY, literal=True)).list.all(),
        )
    )


def _history(prompts: pl.DataFrame, name: str, value: float) -> pl.DataFrame:
    """The titles of a list, each at its share of the way to the target."""
    length = pl.col(name).list.len()
    rows = prompts.filter(length > 0).select(
        "number", "line", pl.col(name).alias("item"),
        ((pl.int_ranges(0, length).list.eval(pl.element() + 0.5)) / length).alias("place"),
    )  # fmt: skip
    return rows.explode("item", "place").select(
        "number",
        "line",
        "item",
        pl.lit(value, pl.Float32).alias("value"),
        "place",
        pl.lit(False).alias("target"),
    )


def _windows(prompts: pl.DataFrame) -> int:
    """How many prompts hold, in the list of its label, the target of the prompt before them."""
    before, label = pl.col("target").shift(), pl.col("value").shift()
    liked = pl.when(label == 1).then(pl.col("liked")).otherwise(pl.col("disliked"))
    return int(prompts.select((liked.list.contains(before) & before.is_not_null()).sum()).item())
