"""Help texts: options as they are typed, what they do, their defaults; the short help of `fit` and its like.

What `recloom fit --help` and its like print: what is used every day. `--help-all` lists every option.
"""

from __future__ import annotations

import inspect
import textwrap
import typing
from argparse import SUPPRESS, Action
from collections.abc import Iterable
from typing import Any

from jsonargparse import DefaultHelpFormatter

SAID = {
    "--config": "YAML file with any of these options; later words win.",
    "--print_config": "print the options as such a file, and exit.",
    "--help": "show this, and exit.",
}
"""Options that every command has."""
PART_OF_A_FILE = "Path to a configuration file."
"""What the parser says of a group of options, such as `--llm`: the whole goes into `--config` as well."""


class CommandHelp(DefaultHelpFormatter):
    """The options of a command as people type them, those that every command has at the end."""

    def start_section(self, heading: str | None) -> None:
        shown = "arguments" if heading == "positional arguments" else heading
        super().start_section(shown and textwrap.fill(shown, self._width, break_on_hyphens=False))

    def add_arguments(self, actions: Iterable[Action]) -> None:
        kept = [action for action in actions if action.help != PART_OF_A_FILE or action.dest == "config"]
        super().add_arguments(sorted(kept, key=lambda action: _flag(action) in SAID))

    def _format_usage(self, usage: Any, actions: Iterable[Action], *rest: Any) -> str:
        """`usage: recloom items add RUN FILE --out OUT [options]`: what must be given, in the order of typing."""
        if usage:
            return textwrap.fill(f"usage: {usage}", self._width, subsequent_indent=" " * 7) + "\n\n"
        needed = [action for action in actions if action.required and action.help != SUPPRESS]
        words = [f"{_flag(action)} {_value(action)}".strip() for action in needed if action.option_strings]
        places = [_value(action) for action in needed if not action.option_strings]
        line = " ".join(["usage:", self._prog, *places, *words, "[options]"])
        return textwrap.fill(line, self._width, subsequent_indent=" " * 7) + "\n\n"

    def _format_action_invocation(self, action: Action) -> str:
        return _typed(action)

    def _get_help_string(self, action: Action) -> str:
        if getattr(action, "_jsonargparse_preexpanded_help", False):  # this very function has made it
            return action.help or ""
        text = _said(action) or (action.help or "").strip()
        facts = [*_names(action), *_default(action)]
        return " ".join([text, f"({'; '.join(facts)})"] if facts else [text]).strip()


def _typed(action: Action) -> str:
    """An argument or an option with its value, as it is typed."""
    if not action.option_strings:
        return _value(action)
    flag, kind = _flag(action), _kind(action)
    if kind is bool:
        return flag if not action.default else f"{flag}, --no-{flag[2:]}"
    if typing.get_origin(kind) is typing.Literal:
        return f"{flag} {{{','.join(map(str, typing.get_args(kind)))}}}"
    if flag in SAID:
        return f"{flag} FILE" if flag == "--config" else flag
    return f"{flag} NAME" if flag.endswith(".help") else f"{flag} {_value(action)}"


def _value(action: Action) -> str:
    """What stands for a value: the name of the parameter, and dots where there may be several."""
    several = " ..." if typing.get_origin(_kind(action)) is list else ""
    return action.dest.rpartition(".")[2].upper() + several


def _flag(action: Action) -> str:
    """The long form; `--columns+`, which the parser adds to a list, is not shown."""
    return max(action.option_strings, key=lambda option: (not option.endswith("+"), len(option)), default="")


def _kind(action: Action) -> Any:
    """The type, None left out of it; None where the parser knows of none."""
    kind = getattr(action, "_typehint", None)
    parts = [part for part in typing.get_args(kind) if part is not type(None)]
    return parts[0] if len(parts) == 1 and type(None) in typing.get_args(kind) else kind


def _said(action: Action) -> str | None:
    """What is said of options that every command has, or every component."""
    flag = _flag(action)
    return "show the options of NAME, and exit." if flag.endswith(".help") else SAID.get(flag)


def _names(action: Action) -> list[str]:
    """The names of the components to choose from."""
    further = getattr(action, "extra_help", str)().partition("known subclasses: ")[2].split(", ")
    own = _kind(action).__name__ if inspect.isclass(_kind(action)) else ""
    names = [path.rpartition(".")[2] for path in further]
    return [", ".join(name for name in names if name != own)] if names[1:] else []


def _default(action: Action) -> list[str]:
    """The default where there is one to speak of."""
    if not action.option_strings or action.default in (None, False, SUPPRESS):
        return []
    if action.default is True:
        return [f"default {_flag(action)}"]
    return ["default %(default)s"] if isinstance(action.default, int | float | str) else []


FIT = """\
usage: recloom fit --model NAME --data DIR [options]
       recloom fit --config FILE [options]
       recloom fit --run RUN --ckpt_path last

Train a recommender on a prepared dataset, or another module on data of its own
(`recloom list modules`). A run is one folder, by default runs/DATA/MODEL.

Which (`recloom list` shows what is installed):
  --model NAME                  recommender, such as SASRec, EASE or LightGCN
  --model.recommender.dim 64    an option of it; --model.recommender.help NAME
                                explains them all
  --model.loss NAME             loss; by default the recommender's own
  --config FILE                 YAML with any of these; --print_config writes it

Data:
  --data DIR                    made by `recloom data prepare` or `data synth`
  --data.split.strategy last    last, time, random, users (`data split --help`)
  --data.candidates all         what is ranked: all; impressions; rated (held
                                out, with labels); uniform-N, popular-N: sampled
  --data.seen masked            kept: items of the history may come again
  --data.new_users kept         dropped: only requests with a history
  --data.vectors FILE           vectors of items (`recloom embed`), or NAME=FILE
  --data.user_vectors FILE      the same of users
  --data.positive 4             click models: positive from this value on
  --data.known_first 30         click models: texts may tell of a user's first
                                half, 30 at most, which is not learnt from
  --data.windows all            last: only the ends of long histories are used
  --data.batch_size 128         training rows of a batch
  --data.eval_users 10000       validation of so many users, drawn at random

How:
  --model.lr 0.001              learning rate of AdamW
  --model.metrics ndcg@10,mrr   measured; ndcg@10, else the first, is watched
  --trainer.max_epochs 50       epochs at most
  --early_stopping.patience 10  validations without a better one; null: never
  --trainer.accelerator auto    cpu, gpu, ...; as in Lightning
  --seed_everything 0           of everything random

Where:
  --run DIR                     folder of the run
  --overwrite                   replace what a finished fit left there
  --ckpt_path last              go on with an interrupted fit; needs only --run

Examples:
  recloom fit --model EASE --data data/movies
  recloom fit --model SASRec --data data/movies --model.loss GBCE --run runs/a
  recloom fit --config configs/ml-1m/sasrec.yaml --data data/ml-1m
"""
MEASURE = """\
usage: recloom {verb} RUN [options]

{what}

  RUN                             folder of a run
  --data DIR                      the dataset, where it is not where the run
                                  was trained from
  --ckpt_path FILE                a checkpoint; by default the best, else the
                                  last
  --metrics ndcg@5,hit@20         other metrics than the run was trained with
  --data.candidates all           other candidates: all, impressions, rated,
                                  uniform-N, popular-N
  --data.seen masked              kept: items of the history may be recommended
                                  again
  --trainer.accelerator auto      cpu, gpu, ...
  --model.recommender.llm.run plan  of a recommender that asks a language model:
                                  what that would cost; also .max_calls,
                                  .max_money, .ledger, .offline, ...

Example:
  recloom {verb} runs/movies/SASRec
"""
WHAT = {
    "validate": "Measure a run on the validation part. Prints the figures and writes nothing.",
    "test": "Measure a run on the test part. Prints the metrics with 95 % intervals, in all\n"
    "and by warm, cold and tail items, and writes metrics.json and\n"
    "per_user_test.parquet into the run, which `recloom compare` reads.",
    "predict": "Rank for the requests of the test part. Writes predictions.parquet into the\n"
    "run: user_id, item_id, score and rank of the ten best. For every user, after\n"
    "their whole history: `recloom recommend RUN --all`.",
}
LIGHTNING = {
    "fit": "Train a recommender on a prepared dataset.",
    "validate": "Measure a run on the validation part.",
    "test": "Measure a run on the test part, with intervals.",
    "predict": "Rank for the requests of the test part and write the lists to Parquet.",
}
HELP = {"-h", "--help"}
ALL = "--help-all"


def usage(verb: str) -> str:
    """The short help of `fit`, `validate`, `test` or `predict`."""
    text = FIT if verb == "fit" else MEASURE.format(verb=verb, what=WHAT[verb])
    return f"{text}\n{ALL} lists every option, those of Lightning included."
