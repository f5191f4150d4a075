"""One translator of what parsers complain of; what the command line takes is handed to it."""

from __future__ import annotations

import subprocess
import sys

import pytest
from recloom.parse_errors import ANYWHERE, CommandLine, ComponentOption, explain


class Ranker:
    def __init__(self, catalog, dim: int = 8, llm: object = None) -> None: ...


class Judge:
    def __init__(self, policy: str = "a") -> None: ...


LINE = CommandLine(
    options=["data", "llm.model", "llm.prices", "llm.max_calls", "model.lr", "trainer.max_epochs"],
    help="Help is here.",
    components={
        "model": ComponentOption({"Ranker": Ranker}, "models"),
        "llm.model": ComponentOption({"Judge": Judge}, "names to choose from", ["LanguageModel"]),
        ANYWHERE: ComponentOption({"Judge": Judge}, "names to choose from"),
    },
    places=["data"],
    needed={"model": "--model NAME, such as Ranker"},
    verbs=["fit"],
    files=["a.yaml"],
)
UNION = """Parser key "trainer.max_epochs":
  Does not validate against any of the Union subtypes
  Subtypes: [<class 'int'>, <class 'NoneType'>]
  Errors:
    - Expected a <class 'int'>
    - Expected a <class 'NoneType'>
  Given value type: <class 'str'>
  Given value: x"""
PRICES = """Parser key "llm.prices":
  Does not validate against any of the Union subtypes
  Errors:
    - Problem with given class_path 'recloom.llm.Prices':
        {inner}
    - Expected a <class 'NoneType'>
  Given value type: <class 'jsonargparse._util.NestedArg'>
  Given value: NestedArg(key='prompt', val='x')"""
NESTED = """Parser key "model":
  Type Callable[[a.Catalog], a.Recommender] expects a function or a callable class: {inner}. Got value: Namespace("""
NESTED += "class_path='a.Ranker', init_args=Namespace(dim='x'))"


@pytest.mark.parametrize(
    ("complaint", "told"),
    [
        (
            "the following arguments are required: fit.model, data, fit.llm.model",
            "say --model NAME, such as Ranker and DATA and --llm.model.",
        ),
        ("the following arguments are required: llm.model", "say --llm.model: one of Judge."),
        ("the following arguments are required: data, llm.model", "say DATA, --llm.model."),
        (
            PRICES.format(inner="the following arguments are required: completion"),
            "say --llm.prices.completion.",
        ),
        (
            'Parser key "fit.model":\n\n  - Expected a path but Rankr either not accessible or invalid\n'
            "  - Expected a dot import path string: Rankr",
            "--model: 'Rankr' is not among the models. Did you mean Ranker? Installed: Ranker.",
        ),
        (
            NESTED.format(inner='Parser key "llm":\n    Expected a dot import path string: Jude'),
            "--model.llm: 'Jude' is not among the names to choose from. Did you mean Judge? Installed: Judge.",
        ),
        (
            NESTED.format(inner="Option 'dmi' is not accepted"),
            "--model.dmi: 'dmi' is not among the options of Ranker. Did you mean dim? It has: dim, llm.",
        ),
        (
            "Parser key \"llm.model\":\n  Problem with given class_path 'recloom.llm.LanguageModel':\n"
            "    Option 'policy' is not accepted",
            "say --llm.model NAME before --llm.model.policy.",
        ),
        (
            NESTED.format(inner="Parser key \"dim\":\n    Expected a <class 'int'>. Got value: x"),
            "--model.dim takes a value of type int; found 'x'.",
        ),
        (UNION, "--trainer.max_epochs takes a value of type int or null; found 'x'."),
        (
            PRICES.format(inner="Parser key \"prompt\":\n          Expected a <class 'float'>. Got value: x"),
            "--llm.prices.prompt takes a value of type float; found 'x'.",
        ),
        (
            "Parser key \"data\":\n  Expected a typing.Literal['last', 'time']. Got value: lats",
            "DATA takes one of last, time; found 'lats'. Did you mean last?",
        ),
        (
            'Parser key "llm.max_calls":\n  1 validation error for constrained-int\n    Input should be less than 1 '
            "[type=less_than, input_value='3', input_type=str]\n      For more visit https://x. Got value: 3",
            "--llm.max_calls: Input should be less than 1; found '3'.",
        ),
        (
            "unrecognized arguments: --llm.max-cals 3",
            "--llm.max-cals is not an option (given on the command line or in a.yaml). Did you mean --llm.max_calls?",
        ),
        (
            "Unrecognized arguments: mrr@10",
            "'mrr@10' stands where an option is expected. A list has commas and no spaces, as in "
            "--model.metrics ndcg@10,mrr. A value with spaces stands in quotes.",
        ),
        (
            "Subcommand 'fit' does not accept option 'trainer.lr.class_path'",
            "--trainer.lr.class_path is not an option (given on the command line or in a.yaml). "
            "Did you mean --model.lr?",
        ),
        (
            "ambiguous option: --lr could match --lr_scheduler.help, --lr_scheduler",
            "--lr is not an option (given on the command line or in a.yaml). Did you mean --model.lr?",
        ),
        ("recloom.llm.fake.Fake is odd.", "Fake is odd."),
    ],
)
def test_a_complaint_becomes_a_sentence_that_names_the_option(complaint, told):
    assert explain(complaint, LINE) == f"{told} Help is here."


def test_the_translator_and_the_files_of_a_run_import_nothing_heavy():
    code = (
        "import sys, recloom.parse_errors, recloom.io, recloom.progress, recloom.next_steps\n"
        "assert not {'torch', 'lightning', 'numpy', 'polars', 'pydantic', 'rich', 'filelock', 'jsonargparse'} "
        "& set(sys.modules)\n"
        "import recloom.run_folder\n"
        "assert not {'torch', 'lightning', 'numpy', 'polars', 'rich', 'filelock'} & set(sys.modules)\n"
        "import recloom.data.card\n"
        "assert not {'torch', 'lightning', 'numpy', 'polars', 'rich', 'filelock'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
