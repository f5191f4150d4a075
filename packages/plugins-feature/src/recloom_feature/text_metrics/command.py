"""`recloom text-metrics`: measure a file of generated texts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recloom.command import command
from recloom.errors import RecloomError
from recloom.llm import LanguageModel
from recloom.metrics import BleuTokenizer, Smoothing, Words


@command("text-metrics")
def text_metrics(
    file: Path,
    *,
    metrics: list[str],
    text: str = "text",
    reference: str | None = None,
    data: Path | None = None,
    users: str | None = None,
    items: str | None = None,
    cited: str | None = None,
    named: str | None = None,
    quoted: bool = False,
    feature: str | None = None,
    features: Path | None = None,
    log_probs: str | None = None,
    log_probs_of: str | None = None,
    model: LanguageModel | None = None,
    smoothing: Smoothing = "none",
    bleu_tokenizer: BleuTokenizer = "13a",
    lowercase: bool = False,
    words: Words = "words",
    percent: bool = False,
    seed: int = 0,
    resamples: int = 1000,
    out: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Measure generated texts: BLEU, ROUGE, faithfulness and more.

    `recloom list text_metrics` lists them.

    Args:
        file: Parquet, CSV or JSON lines (.jsonl), a text on each row.
        metrics: names such as `bleu@4 rouge_l`, apart by blanks or commas.
        text: column of the generated texts.
        reference: column of texts that people wrote.
        data: prepared dataset with the items.
        users: column of whom a text is for, over whom intervals are; by default `user_id` where the file has it.
        items: column of the raw ids of the recommended items.
        cited: column of the attributes that a text gives as reasons, as a list, with `|` between, or as
            `recloom profile --kind reason` writes them (`cites`).
        named: column of the items that a text names, by title or raw id, as a list or with `|` between.
        quoted: the items that a text names are what it puts between double quotation marks.
        feature: column of the feature that a text should mention.
        features: file with a feature on each line, all that there are; by default those of the column.
        log_probs: column of the natural log-probabilities of each text's tokens, null for padding.
        log_probs_of: the tokeniser and model that they come from, for the record.
        model: language model that gives them instead, such as Transformers.
        smoothing: of BLEU.
        bleu_tokenizer: of BLEU, as sacrebleu names them.
        lowercase: BLEU takes upper and lower case as one.
        words: what the others count, runs of letters and digits or single ones (for scripts without spaces).
        percent: show shares times 100, as P5 and most papers do; the file written stays between 0 and 1.
        seed: of the resamples.
        resamples: of the intervals.
        out: JSON file to write.
        overwrite: replace it where it exists.
    """
    from dataclasses import replace

    from recloom.errors import at_least
    from recloom.metrics import Reading
    from recloom.plugins import collect

    from .measure import measure, results, show, write
    from .tables import Columns, read_texts

    at_least(1, resamples=resamples)
    at_least(0, seed=seed)
    known = collect("register_metrics")
    names = _requested(metrics, known)
    _check(out, overwrite, model, log_probs, log_probs_of, features, feature)
    reading = Reading(smoothing=smoothing, bleu_tokenizer=bleu_tokenizer, lowercase=lowercase, words=words,
                      log_probs_of=log_probs_of or "")  # fmt: skip
    columns = Columns(text, reference, items, cited, named, feature, log_probs, users)
    texts = read_texts(file, columns, data=data, quoted=quoted, features=features, reading=reading)
    if model is not None:
        if not any("log_probs" in known[name.partition("@")[0]].needs for name in names):
            raise RecloomError(
                "--model gives log-probabilities, and no metric asked for needs them; leave it out"
            )
        source = Reading(**vars(reading) | {"log_probs_of": _name(model)})
        texts = replace(texts, log_probs=_log_probs(model, texts.text), reading=source)
    values = measure(names, known, texts, resamples=resamples, seed=seed)
    found = results(file, texts, values, resamples=resamples, seed=seed)
    show(found, percent)
    if out is not None:
        write(out, found)


def _requested(metrics: list[str], known: dict[str, Any]) -> list[str]:
    """The names, without duplicates; raises RecloomError for one that does not exist."""
    from recloom.metrics import parse_text_metric, text_names

    if not text_names(known):
        raise RecloomError("no text metric is installed. Get them with pip install 'recloom-feature[text]'.")
    names = list(dict.fromkeys(name.strip() for word in metrics for name in word.split(",") if name.strip()))
    if not names:
        raise RecloomError("expected --metrics, such as --metrics bleu@4,rouge_l; found none")
    for name in names:
        parse_text_metric(name, known)
    return names


def _check(
    out: Path | None, overwrite: bool, model: LanguageModel | None, log_probs: str | None,
    log_probs_of: str | None, features: Path | None, feature: str | None,
) -> None:  # fmt: skip
    """Raise RecloomError for options that do not go together, before anything is read."""
    from recloom.io import writable

    if out is not None:
        writable(out, overwrite=overwrite)
    if log_probs and model:
        raise RecloomError("give either --log-probs COLUMN or --model NAME, found both")
    if bool(log_probs) != bool(log_probs_of):
        raise RecloomError(
            "--log-probs COLUMN and --log-probs-of NAME belong together: a perplexity depends on its "
            "tokeniser. Write for example --log-probs-of Llama-3.1-8B."
        )
    if features and not feature:
        raise RecloomError("--features FILE is read together with --feature COLUMN, found none; give it too")


def _name(model: LanguageModel) -> str:
    import json

    return json.dumps(model.identity, sort_keys=True)


def _log_probs(model: LanguageModel, texts: Sequence[str]) -> list[list[float]]:
    """Of each text's tokens, with a progress bar."""
    from recloom.progress import Progress

    step = 8 * model.batch_size
    found: list[list[float]] = []
    with Progress("reading texts", len(texts)) as progress:
        for start in range(0, len(texts), step):
            part = texts[start : start + step]
            found += model.token_log_probs(part)
            progress.advance(len(part), 0)
    return found
