"""The words of `recloom fit|validate|test|predict`: short names written out, and what the folder of a run adds."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..data.vector_files import named_files
from ..errors import RecloomError
from ..next_steps import command_line
from ..run_folder import CHECKPOINTS, best_checkpoint, latest_run

VECTORS = "--data.vectors"
CONFIG_FLAGS = ("--config", "-c")
SHORT = {"--model": "--model.recommender", "--data": "--data.path", "--split": "--data.split_path"}
METRICS = ("--metrics", "--model.metrics")


def expand(args: list[str]) -> list[str]:
    """`--model SASRec --data DIR` for `--model.recommender SASRec --data.path DIR`, `test RUN` for `test --run RUN`."""
    words: list[str] = []
    for word in _with_metrics(_with_named_vectors(args)):
        flag, equals, value = _config_word(word).partition("=")
        words.append("--overwrite=true" if word == "--overwrite" else SHORT.get(flag, flag) + equals + value)
    if len(words) > 1 and words[0] != "fit" and not words[1].startswith("-"):
        words.insert(1, "--run")
    return words


def _with_metrics(args: list[str]) -> list[str]:
    """`--metrics ndcg@10 mrr@10` or `--metrics ndcg@10,mrr@10` as `--model.metrics [ndcg@10,mrr@10]`."""
    words, rest = [], list(args)
    while rest:
        word = rest.pop(0)
        flag, equals, value = word.partition("=")
        if flag not in METRICS:
            words.append(word)
            continue
        names = [value] if equals else []
        while rest and not rest[0].startswith("-"):
            names.append(rest.pop(0))
        if not any(names):
            raise RecloomError(
                f"{flag} needs names of metrics, such as {flag} ndcg@10,mrr@10; found none. `recloom list metrics` "
                "shows them."
            )
        words += [METRICS[1], _listed(",".join(names))]
    return words


def _with_named_vectors(args: list[str]) -> list[str]:
    """`--data.vectors text=FILE image=FILE` as one word that the parser reads; one file without a name as it is."""
    words, rest = [], list(args)
    while rest:
        word = rest.pop(0)
        flag, equals, value = word.partition("=")
        if flag != VECTORS:
            words.append(word)
            continue
        files = [value] if equals else []
        while rest and not rest[0].startswith("-"):
            files.append(rest.pop(0))
        if not any(files):
            raise RecloomError(
                f"{VECTORS} needs a Parquet file of item_id and vector, such as {VECTORS} vectors.parquet, or several "
                "with names, such as text=text.parquet image=image.parquet; found none. Leave it out to train without."
            )
        found = named_files(files) if files and not files[0].startswith("{") else " ".join(files)
        words += [VECTORS, found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)]
    return words


def _config_word(word: str) -> str:
    """`-cFILE`, which the parser takes too, as `-c=FILE`."""
    return f"-c={word[2:]}" if word.startswith("-c") and word[2:3] not in ("", "=") else word


def _listed(names: str) -> str:
    """`a,b` as `[a,b]`."""
    return names if names.startswith("[") else f"[{names}]"


def with_run_folder(args: list[str]) -> list[str]:
    """Make `--run DIR` bring the run's config and checkpoint; make `--ckpt_path last` find the newest run."""
    verb, words = args[0], args[1:]
    run, checkpoint = value(words, "--run"), value(words, "--ckpt_path")
    if "-h" in words or "--help" in words:
        return args
    if verb == "fit" and checkpoint in ("last", "best"):
        run = run or str(latest_run())
        words = [*without(words, "--ckpt_path"), "--ckpt_path", str(load_path(run, checkpoint))]
    elif verb == "fit":
        return args
    elif not run and not any(word.split("=")[0] in CONFIG_FLAGS for word in words):
        raise RecloomError(f"say which run: `recloom {verb} runs/DATA/MODEL`")
    elif run and checkpoint is None:
        words += ["--ckpt_path", str(best_checkpoint(Path(run)))]
    if run and not any(word.split("=")[0] in CONFIG_FLAGS for word in words):
        words = ["--config", str(Path(run) / "config.yaml"), "--run", run, *without(words, "--run")]
    return [verb, *words]


def load_path(run: str, name: str) -> Path:
    """The checkpoint `last` or `best` of a run."""
    path = Path(run) / CHECKPOINTS / f"{name}.ckpt"
    if not path.is_file():
        raise RecloomError(
            f"{run} holds no {CHECKPOINTS}/{name}.ckpt to resume from. Start it with "
            f"`{command_line('fit', '--run', run)}`."
        )
    return path


def value(words: list[str], flag: str) -> str | None:
    """The first value of an option; None where it is not given."""
    return next(iter(values(words, flag)), None)


def values(words: list[str], flag: str) -> list[str]:
    """All values of an option that is given several times, in order."""
    found = []
    for place, word in enumerate(words):
        if word == flag and place + 1 < len(words):
            found.append(words[place + 1])
        elif word.startswith(flag + "="):
            found.append(word.partition("=")[2])
    return found


def options_in_order(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each option that has a value, and the first word of that value, in the order they are given."""
    for place, word in enumerate(words):
        flag, equals, given = word.partition("=")
        following = given if equals else "".join(words[place + 1 : place + 2])
        if flag.startswith("-") and following and (equals or not following.startswith("-")):
            yield flag, following


def without(words: list[str], flag: str) -> list[str]:
    kept, skip = [], False
    for word in words:
        if skip or word.startswith(flag + "="):
            skip = False
        elif word == flag:
            skip = True
        else:
            kept.append(word)
    return kept
