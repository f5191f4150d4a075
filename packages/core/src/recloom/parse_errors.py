"""What a parser of options complains of, in words: the option, what it takes, what was found, what was meant.

One translator for commands and for Lightning's command line. It knows the messages of jsonargparse and pydantic; what
the command line takes is handed to it as a `CommandLine`, so nothing heavy is imported here.
"""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from .errors import RecloomError
from .plugins import load_object
from .spec import unknown

ANYWHERE = "*"
"""Stands in `CommandLine.components` for components that are options of components."""


@dataclass(frozen=True)
class ComponentOption:
    """What an option takes whose value is a registered class.

    Args:
        known: class by name.
        what: a word for them all, such as `models`.
        bases: names of abstract classes of which the option wants one; a parser falls back on them.
    """

    known: Mapping[str, type]
    what: str
    bases: Collection[str] = ()


@dataclass(frozen=True)
class CommandLine:
    """What a command line takes, as far as its mistakes are explained.

    Args:
        options: names without dashes that a slip of the finger may have meant; of a group `group.name`.
        help: the sentence that says where all options are listed.
        components: by option; for those that are options of components by a pattern of their names, such as
            `*.llm.model`, and `*` for any other.
        places: options that stand at a place and have no flag.
        needed: what to say for an option that is missing, where its flag alone says too little.
        verbs: subcommands, which the parser puts before names of options.
        files: configuration files that were read, since an option may stand in one of them.
    """

    options: Collection[str]
    help: str
    components: Mapping[str, ComponentOption] = field(default_factory=dict)
    places: Collection[str] = ()
    needed: Mapping[str, str] = field(default_factory=dict)
    verbs: Collection[str] = ()
    files: Sequence[str] = ()

    def flag(self, key: str) -> str:
        """How an option is typed."""
        return key.upper() if key in self.places else f"--{key}"

    def component(self, key: str) -> ComponentOption | None:
        """What an option takes, or an option of the component that it takes."""
        if key in self.components or not any(key.startswith(f"{name}.") for name in self.components):
            return self.components.get(key)
        return next(
            (one for name, one in self.components.items() if "*" in name and fnmatchcase(key, name)), None
        )

    def without_verb(self, name: str) -> str:
        """`model.lr` for `fit.model.lr`."""
        verb, _, rest = name.partition(".")
        return rest if rest and verb in self.verbs else name


def explain(complaint: str, line: CommandLine) -> str:
    """Turn a parser's complaint into a sentence or two, and where help is; what is not understood stays as it is."""
    for reader in (_missing, _foreign, _wrong_name, _wrong_part, _out_of_bounds, _unknown, _wrong_value):
        found = reader(complaint, line)
        if found:
            return f"{found if found.endswith(('.', '?')) else f'{found}.'} {line.help}"
    without_paths = re.sub(r"recloom\w*\.[\w.]*\.", "", complaint).strip()
    return f"{without_paths.removesuffix('.')}. {line.help}"


def _missing(complaint: str, line: CommandLine) -> str | None:
    missing = re.search(r"following arguments are required: ([\w.]+(?:, [\w.]+)*)", complaint)
    if missing is None:
        return None
    group = _key(complaint[: missing.start()], line)
    names = [line.without_verb(name.strip(".")) for name in missing[1].split(", ")]
    names = [f"{group}.{name}" if group else name for name in names]
    between = " and " if set(names) & set(line.needed) else ", "
    words = "say " + between.join(line.needed.get(name, line.flag(name)) for name in names)
    component = None if len(names) > 1 or names[0] in line.needed else line.component(names[0])
    told = component is not None and component is not line.components.get(ANYWHERE)
    return f"{words}: one of {', '.join(sorted(component.known))}" if component and told else words


def _foreign(complaint: str, line: CommandLine) -> str | None:
    """A class of another kind, such as one of another program."""
    found = re.search(
        r"Expected '([\w.]+)' to be a subclass of <class '(?:\w+\.)*(\w+)'>", complaint
    ) or re.search(r"Import path ([\w.]+) does not correspond to a subclass of (?:\w+\.)*(\w+)", complaint)
    if found is None:
        return None
    key = _key(complaint[: found.start()], line)
    return f"{line.flag(key)}: {not_of_kind(found[1], found[2], line.component(key))}"


def not_of_kind(path: str, kind: str, component: ComponentOption | None = None) -> str:
    """A sentence for a class, or anything else, that is not of the wanted kind."""
    names = f"one of {', '.join(sorted(component.known))}, or " if component else ""
    return f"{path} is no {kind}, so it is not used. Give {names}the import path of a class that is one"


def _wrong_name(complaint: str, line: CommandLine) -> str | None:
    """A class that does not exist."""
    found = re.search(r"Expected a dot import path string: (\S+)", complaint)
    key = _key(complaint[: found.start()], line) if found else ""
    component = line.component(key)
    if found is None or component is None:
        return None
    return f"{line.flag(key)}: " + unknown(found[1].rstrip("."), component.known, component.what)


def _wrong_part(complaint: str, line: CommandLine) -> str | None:
    """An option that a class does not have."""
    found = re.search(r"[Oo]ption '([\w.]+)' is not accepted", complaint)
    if found is None:
        return None
    paths = [
        re.findall(r"class_path[ =]'([\w.]+)'", part)
        for part in (complaint[: found.start()], complaint[found.end() :])
    ]
    path = paths[0][-1] if paths[0] else paths[1][0] if paths[1] else ""
    key, short = _key(complaint[: found.start()], line), path.rpartition(".")[2]
    if not path:
        return None
    component = line.component(key)
    if component and short in component.bases:
        return f"say {line.flag(key)} NAME before {line.flag(f'{key}.{found[1]}')}"
    known = _parameters(component.known.get(short) if component else None, path)
    message = unknown(found[1], known, f"options of {short}").replace("Installed:", "It has:")
    return f"{line.flag(f'{key}.{found[1]}')}: {message}"


def _out_of_bounds(complaint: str, line: CommandLine) -> str | None:
    """A number that pydantic refuses."""
    found = re.search(r"(Input should be [^\[]+?) \[.*Got value: (.+)$", complaint, re.DOTALL)
    return f"{line.flag(_key(complaint, line))}: {found[1]}; found {found[2]!r}" if found else None


def _unknown(complaint: str, line: CommandLine) -> str | None:
    word = re.search(r"[Uu]nrecognized arguments: ([^-\s]\S*)", complaint)
    if word:
        lists = " A list has commas and no spaces, as in --model.metrics ndcg@10,mrr." if line.verbs else ""
        return f"{word[1]!r} stands where an option is expected.{lists} A value with spaces stands in quotes"
    found = re.search(
        r"(?:[Uu]nrecognized arguments|does not accept option|[Gg]roup '?\w*'? does not accept|not expected|nested key)"
        r"[^-\w]*-*([\w.-]+)",
        complaint,
    ) or re.search(r"ambiguous option: --([\w.-]+)", complaint)
    if found is None:
        return None
    files = f" (given on the command line or in {', '.join(line.files)})" if line.files else ""
    stem = line.without_verb(found[1])
    options = [name for name in line.options if name not in line.places]
    last = stem.removesuffix(".class_path").rpartition(".")[2]
    same = [name for name in options if name.rpartition(".")[2] == last]
    near = same[0] if same else _nearest(stem.removesuffix(".class_path"), options)
    return f"--{stem} is not an option{files}" + (f". Did you mean --{near}?" if near else "")


def _wrong_value(complaint: str, line: CommandLine) -> str | None:
    """A value of another type, or none of the choices; the innermost option is the one that was set."""
    key = _key(complaint, line)
    wanted = re.findall(r"Expected an? (.+?)\. Got value: ", complaint)
    wanted = wanted[:1] or re.findall(r"- Expected an? (.+?)$", complaint, re.MULTILINE)
    given = re.search(r"(?:Got|Given) value: (.+?)(?:\. Got value: .+)?$", complaint, re.MULTILINE)
    if not key or not wanted or given is None:
        return None
    value = re.sub(r"NestedArg\(key='\w+', val=(.+)\)", r"\1", given[1]).strip("'\"")
    listed = re.fullmatch(r"typing\.Literal\[(.+)\]", wanted[0])
    if listed is None:
        names = [
            re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", one).replace("NoneType", "null") for one in wanted
        ]
        return f"{line.flag(key)} takes a value of type {' or '.join(dict.fromkeys(names))}; found {value!r}"
    choices = [name.strip().strip("'\"") for name in listed[1].split(",")]
    near = _nearest(value, choices)
    hint = f". Did you mean {near}?" if near else ""
    return f"{line.flag(key)} takes one of {', '.join(choices)}; found {value!r}{hint}"


def _key(complaint: str, line: CommandLine) -> str:
    """The option that was set: `llm.prices.prompt` where the parser names first `llm.prices` and inside it `prompt`."""
    whole = ""
    for name in re.findall(r'Parser key "([\w.]+)"', complaint):
        part = line.without_verb(name)
        whole = part if not whole or part == whole or part.startswith(f"{whole}.") else f"{whole}.{part}"
    return whole


def _nearest(name: str, known: Sequence[str]) -> str | None:
    return next(iter(difflib.get_close_matches(name, known, n=1)), None)


def _parameters(kind: type | None, path: str) -> list[str]:
    """Options of a class, given or by its import path; `catalog` is given to every recommender and no option."""
    try:
        found = kind or load_object(":".join(path.rsplit(".", 1)))
    except (RecloomError, ImportError, AttributeError):
        return []
    return [name for name in inspect.signature(found).parameters if name != "catalog"]
