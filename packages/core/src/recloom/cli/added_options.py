"""A command that takes the arguments of a constructor beside its own options, such as those of the reader it names."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import PluginError


def with_options(function: Callable[..., Any], words: Sequence[str]) -> Callable[..., Any]:
    """The command with the options of the classes that `options_of` names for these words.

    What is given of them is handed over as the last parameter, a dict; what is left at its default is not in it.
    """
    classes = function.options_of(words)  # type: ignore[attr-defined]
    own = inspect.signature(function, eval_str=True).parameters
    *kept, (collected, _) = own.items()
    added = _parameters(classes, [name for name, _ in kept])

    def call(*args: Any, **options: Any) -> Any:
        chosen = {name: options.pop(name) for name in added if name in options}
        changed = {name: value for name, value in chosen.items() if value != added[name].default}
        return function(*args, **options, **{collected: changed})

    call.__name__, call.passes_on = function.__name__, False  # type: ignore[attr-defined]
    call.__doc__ = "\n".join([inspect.cleandoc(function.__doc__ or ""), *_described(classes, added)])
    parameters = [parameter for _, parameter in kept] + list(added.values())
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return call


def _parameters(classes: Sequence[type], own: Sequence[str]) -> dict[str, inspect.Parameter]:
    """Arguments of the constructors by name, as keyword-only options.

    One that two classes declare with different types or defaults is left out: it is taken where one of them is named.
    """
    found: dict[str, inspect.Parameter] = {}
    unlike: set[str] = set()
    for one in classes:
        for name, parameter in _signature(one).parameters.items():
            if name in own or parameter.default is parameter.empty or parameter.annotation is parameter.empty:
                raise PluginError(
                    f"{one.__name__} takes {name!r}, which cannot be an option: it needs a type, a default and a name "
                    f"that is not one of {', '.join(own)}."
                )
            option = parameter.replace(kind=parameter.KEYWORD_ONLY)
            if found.setdefault(name, option) != option:
                unlike.add(name)
    return {name: option for name, option in found.items() if name not in unlike}


def _signature(one: type) -> inspect.Signature:
    try:
        return inspect.signature(one, eval_str=True)
    except NameError as error:
        raise PluginError(
            f"the options of {one.__name__} cannot be read: {error}. Import their types where the class is defined, "
            "not for type checkers alone."
        ) from error


def _described(classes: Sequence[type], added: dict[str, inspect.Parameter]) -> list[str]:
    """Lines for the section `Args:` of a docstring; the first class that describes an option is heard."""
    from docstring_parser import parse

    said: dict[str, str] = {}
    for one in classes:
        for text in (one.__doc__, getattr(vars(one).get("__init__"), "__doc__", None)):
            for part in parse(inspect.cleandoc(text or "")).params:
                if part.arg_name in added and part.description:
                    said.setdefault(part.arg_name, " ".join(part.description.split()))
    return [f"    {name}: {text}" for name, text in said.items()]
