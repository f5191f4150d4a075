"""Component specifications, `{"class_path": name, "init_args": {...}}`, as configs and checkpoints hold them."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import importlib
import inspect
from collections.abc import Callable
from typing import Any, TypedDict

from .errors import RecloomError
from .plugins import collect, load_object, public_name

KINDS = {
    "register_models": "recloom.recommender:Recommender",
    "register_losses": "recloom.losses:Loss",
    "register_language_models": "recloom.llm:Component",
}
"""What may be built, by hook."""


TRAINED_RUN = "TrainedRun"
"""The public name of `recloom.run_folder.TrainedRun`, which no plugin registers."""


class Spec(TypedDict):
    """A class by its public name, or where it has none by its import path, and the arguments of its constructor."""

    class_path: str
    init_args: dict[str, Any]


def describe(recipe: Callable[..., Any] | Spec, *, stored: bool = True) -> Spec:
    """Turn a class, or a `functools.partial` of one, into plain data.

    Without `stored`, components with options that are given at each command (`not_stored`) stay as they are, for
    `build` in this process.
    """
    if isinstance(recipe, dict):
        named = with_public_names(recipe)
        return Spec(class_path=named["class_path"], init_args=dict(named.get("init_args") or {}))
    given: dict[str, Any] = {}
    made = recipe
    if isinstance(recipe, functools.partial):
        given = dict(recipe.keywords)
        made = next((part for part in (*recipe.args, recipe.func) if inspect.isclass(part)), recipe.func)
    if not inspect.isclass(made):
        raise RecloomError(f"expected a class or functools.partial(Class, option=value), found {recipe!r}")
    return Spec(
        class_path=_name(made), init_args={name: _plain(name, value, stored) for name, value in given.items()}
    )


def build(hook: str, spec: Spec | dict[str, Any], *args: Any) -> Any:
    """Make the thing that `spec` describes, with `args` before its keyword arguments."""
    kind = find(hook, spec["class_path"])
    options = {name: _revive(value) for name, value in (spec.get("init_args") or {}).items()}
    return kind(*args, **options)


def find(hook: str, name: str) -> Any:
    """A registered class by its short name, or any class of the right kind by its import path."""
    known = collect(hook)
    short = name.rpartition(".")[2]
    if short in known and name in (short, _path(known[short])):
        return known[short]
    if "." not in name:
        raise RecloomError(unknown(name, known, hook.removeprefix("register_").replace("_", " ")))
    module, _, attribute = name.rpartition(".")
    try:
        kind = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        if short in known and _root(name) == _root(known[short].__module__):  # saved before its file moved
            return known[short]
        raise RecloomError(f"{name} cannot be imported: {error}. Is its package installed?") from error
    expected = load_object(KINDS[hook])
    if not (inspect.isclass(kind) and issubclass(kind, expected)):  # a checkpoint must not call what it likes
        raise RecloomError(f"{name} is not a {expected.__name__}; refusing to build it")
    return kind


def refuse_foreign(value: Any, key: str) -> None:
    """Raise RecloomError for anything in a configuration that would be called and is no component or record of options.

    Args:
        value: plain data, in which `class_path` names what is called.
        key: the option that it is the value of.
    """
    if isinstance(value, list):
        for part in value:
            refuse_foreign(part, key)
    if not isinstance(value, dict):
        return
    path = value.get("class_path")
    if isinstance(path, str) and not _may_be_called(path):
        raise RecloomError(
            f"--{key}: {path} is no recommender, loss, language model or record of options, so it is not called. Give "
            "the name of an installed class (`recloom list`), or the import path of a class of your own that is one."
        )
    for name, part in value.items():
        refuse_foreign(part, key if name == "init_args" else f"{key}.{name}")


def _may_be_called(path: str) -> bool:
    module, _, name = path.rpartition(".")
    if registered(path) is not None or not module:
        return True  # a public name that is not known is told of elsewhere
    try:
        kind = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        return True  # as above
    kinds = tuple(load_object(one) for one in KINDS.values())
    return inspect.isclass(kind) and (issubclass(kind, kinds) or dataclasses.is_dataclass(kind))


def registered(path: str) -> Any | None:
    """The component that a public name or an import path means, also a path from before its file moved.

    An old path is known by its last part, where exactly one component of its project has it. None for anything else.
    """
    short = path.rpartition(".")[2]
    owners = [known[short] for known in map(collect, KINDS) if short in known]
    if len(owners) != 1 or (path != short and _root(path) != _root(owners[0].__module__)):
        return None
    return owners[0]


def with_public_names(value: Any) -> Any:
    """Plain data in which every registered component stands by its public name, as files keep it."""
    return _renamed(value, lambda kind: str(public_name(kind)))


def with_import_paths(value: Any) -> Any:
    """Plain data in which every registered component stands by the path it is imported from now."""
    return _renamed(value, _path)


def _renamed(value: Any, name_of: Callable[[Any], str]) -> Any:
    if isinstance(value, list):
        return [_renamed(part, name_of) for part in value]
    if not isinstance(value, dict):
        return value
    named = {key: _renamed(part, name_of) for key, part in value.items()}
    path = named.get("class_path")
    kind = registered(path) if isinstance(path, str) else None
    return named if kind is None else {**named, "class_path": name_of(kind)}


def _name(kind: type) -> str:
    """The public name of a registered class, the import path of any other."""
    path = _path(kind)
    if path == f"recloom.run_folder.{TRAINED_RUN}":
        return TRAINED_RUN
    return public_name(kind) if registered(path) is kind else path


def _root(path: str) -> str:
    """`recloom` for every package of the project, else the top package of an import path."""
    top = path.partition(".")[0]
    return "recloom" if top.startswith("recloom_") else top


def unknown(name: str, known: Any, what: str) -> str:
    """A message for a name that is not among the known ones: the nearest first, then all."""
    by_small = {str(one).lower(): one for one in known}
    near = difflib.get_close_matches(name.lower(), list(by_small), n=1, cutoff=0.5)
    hint = f" Did you mean {by_small[near[0]]}?" if near else ""
    return f"{name!r} is not among the {what}.{hint} Installed: {', '.join(sorted(known)) or 'none'}."


def _hook_of(name: str) -> str:
    """The hook of a component that is an option of another one, by who registered the name or what the class is."""
    failed = None
    for hook in KINDS:
        try:
            find(hook, name)
        except RecloomError as error:
            failed = error
        else:
            return hook
    if "." in name and failed is not None:
        raise failed
    known = [one for hook in KINDS for one in collect(hook)]
    raise RecloomError(unknown(name, known, "models, losses and language models"))


def _path(kind: type) -> str:
    public: str | None = vars(kind).get("stored_as")
    return public or f"{kind.__module__}.{kind.__qualname__}"


def _plain(name: str, value: Any, stored: bool = True) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_plain(name, part, stored) for part in value]
    if isinstance(value, dict):
        return {str(key): _plain(name, part, stored) for key, part in value.items()}
    if inspect.isclass(value) or isinstance(value, functools.partial):  # a recipe within a recipe
        return dict(describe(value, stored=stored))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        left_out = getattr(value, "not_stored", ())
        if left_out and not stored:
            return value
        names = [f.name for f in dataclasses.fields(value) if f.init and f.name not in left_out]
        fields = {field: _plain(name, getattr(value, field), stored) for field in names}
        return {"class_path": _name(type(value)), "init_args": fields}
    raise RecloomError(
        f"argument {name!r} is a {type(value).__name__}, which a checkpoint cannot hold. "
        "Use plain values, or make the component a dataclass."
    )


def _revive(value: Any) -> Any:
    if isinstance(value, dict) and set(value) <= {"class_path", "init_args"} and "class_path" in value:
        if value["class_path"] == TRAINED_RUN:
            return load_object(f"recloom.run_folder:{TRAINED_RUN}")(**value.get("init_args", {}))
        hook = _hook_of(value["class_path"])
        if hook == "register_models":
            return functools.partial(build, hook, value)  # made once the catalogue is there
        return build(hook, value)
    if isinstance(value, list):
        return [_revive(part) for part in value]
    return value
