"""Tables of the config read into dataclasses by their annotated fields; complaints are gathered, never raised."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from decimal import Decimal
from difflib import get_close_matches
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from ..model.errors import ProxyError
from ..model.values import Secret, duration, size
from .words import SECRET_FORM, at, found, hidden, nearest, wanted

T = TypeVar("T")
REFERENCES = ("env:", "file:", "secret:")
Kept = Callable[[str], str | None]
"""Finds a secret that is kept in the store; raises ProxyError when the store can't be opened."""

BAD: Final[Any] = object()  # in place of a value that could not be read; the complaint has been made
SECRET_FILE = 2**16  # bytes; whatever is longer is no secret but the wrong file (or /dev/zero)


class Plain(Secret):
    """Text where a secret may stand, and none: it stands in the file for all to read."""

    __slots__ = ()


SecretOrPlain = Annotated[Secret, "plain too"]


@dataclass(frozen=True, slots=True)
class Complaint:
    """What is wrong in the config and what would be right, with the setting's address."""

    where: str
    text: str

    def __str__(self) -> str:
        text = " ".join(self.text.splitlines())
        return f"{self.where}: {text}" if self.where else text


@dataclass(frozen=True, slots=True)
class Setting:
    """One field of a table's class."""

    name: str
    kind: Any
    default: Any  # MISSING: it must be given
    field: str  # its name in the program where that is another: a word of Python's gets a `_` behind it

    @property
    def required(self) -> bool:
        """Whether the table must give it."""
        return self.default is MISSING


def settings_of(cls: type) -> tuple[Setting, ...]:
    """The settings of a dataclass: its public fields. Raises ValueError when their types can't be told."""
    try:
        kinds = get_type_hints(cls, include_extras=True)
    except Exception as exc:  # annotations are foreign code that runs here; it may raise whatever it likes
        raise ValueError(f"the types of {cls.__name__}'s settings can't be told: {exc}") from exc
    settings = []
    for field in fields(cls):
        if field.init and not field.name.startswith("_"):
            default = field.default if field.default_factory is MISSING else field.default_factory()
            settings.append(Setting(field.name.rstrip("_"), kinds[field.name], default, field.name))
    return tuple(settings)


class Reader:
    """Reads tables and gathers complaints. Relative paths and `file:` secrets are looked for in `folder`."""

    def __init__(self, folder: Path, environ: Mapping[str, str], kept: Kept | None = None) -> None:
        self.folder = folder
        self.environ = environ
        self.kept = kept
        self.complaints: list[Complaint] = []

    def complain(self, where: str, text: str) -> Any:
        """Add a complaint; returns BAD, so that a reading can end with it."""
        self.complaints.append(Complaint(where, text))
        return BAD

    def table(self, cls: type[T], raw: object, where: str) -> T | Any:
        """An instance of the class, or BAD. A wrong value is taken for its default, so that the checks can go on."""
        settings = self.settings(cls, raw, where)
        if settings is BAD:
            return BAD
        try:
            return cls(**settings)
        except ValueError as exc:
            return self.complain(where, str(exc))

    def settings(self, cls: type, raw: object, where: str) -> dict[str, Any] | Any:
        """The keyword arguments for the class, or BAD when one that it can't be without is missing or wrong."""
        if not isinstance(raw, dict):
            return self.complain(where, f"expected a table, found {found(raw, where)}")
        try:
            known = {setting.name: setting for setting in settings_of(cls)}
        except ValueError as exc:
            return self.complain(where, str(exc))
        for key in raw:
            if key not in known:
                self.complain(at(where, key), f"no such setting; {nearest(key, known)}")
        read = {}
        whole = True
        for name, setting in known.items():
            if name in raw:
                value = self.value(setting.kind, raw[name], at(where, name))
                if value is not BAD:
                    read[setting.field] = value
                elif setting.required:
                    whole = False
            elif setting.required:
                whole = False
                self.complain(at(where, name), f"missing; it must be given: {wanted(setting.kind)}")
        return read if whole else BAD

    def value(self, kind: Any, raw: object, where: str) -> Any:
        """The value of that type, or BAD."""
        origin, args = get_origin(kind), get_args(kind)
        if kind is Any:
            return raw
        if origin is Annotated:
            return self._annotated(args, raw, where)
        if origin in (Union, UnionType):
            return self._one_of([arg for arg in args if arg is not NoneType], raw, where)
        if origin is Literal:
            return self._choice(args, raw, where)
        if origin in (tuple, list) and (origin is list or args[1:] == (...,)):
            return self._list(origin, args[0], raw, where)
        if origin in (dict, Mapping) and args[0] is str:
            return self._dict(args[1], raw, where)
        if kind is Secret:
            return self._secret(raw, where)
        if kind is Path:
            return self.folder / raw if isinstance(raw, str) and raw else self._wrong(kind, raw, where)
        if kind in (str, int, float, bool):
            return self._plain(kind, raw, where)
        if (of_number := getattr(kind, "of_number", None)) is not None:
            return self._number(kind, of_number, raw, where)
        if (parse := getattr(kind, "parse", None)) is not None:
            return self._parsed(kind, parse, raw, where)
        if isinstance(kind, type) and is_dataclass(kind):
            return self.table(kind, raw, where)
        return self.complain(where, f"a setting of type {kind} can't be read from a file")

    def _annotated(self, args: tuple[Any, ...], raw: object, where: str) -> Any:
        kind, *marks = args
        if "several" in marks and not isinstance(raw, list):
            value = self.value(get_args(kind)[0], raw, where)
            return value if value is BAD else (value,)
        if "plain too" in marks and isinstance(raw, str) and not raw.startswith(REFERENCES):
            return Plain(raw)
        for mark, parse, unit in (("duration", duration, "s"), ("size", size, "B")):
            if mark in marks:
                if isinstance(raw, int | float) and not isinstance(raw, bool):
                    return self.complain(where, f'a {mark} needs its unit, as in "{raw}{unit}"')
                return self._parsed(Annotated[args], parse, raw, where)
        return self.value(kind, raw, where)

    def _one_of(self, kinds: list[Any], raw: object, where: str) -> Any:
        if Secret in kinds and isinstance(raw, str) and raw.startswith(REFERENCES):
            return self._secret(raw, where)
        if len(kinds) == 1:
            # No trial: a table with a wrong value is one all the same, and its complaints are not to be lost.
            return self.value(kinds[0], raw, where)
        best: list[Complaint] | None = None
        for kind in kinds:
            trial = Reader(self.folder, self.environ, self.kept)
            value = trial.value(kind, raw, where)
            if value is not BAD:
                return value
            if isinstance(raw, list | dict) and _holds(kind, raw):
                best = trial.complaints
        self.complaints += best or [Complaint(where, self._sorry(kinds, raw, where))]
        return BAD

    def _choice(self, choices: tuple[Any, ...], raw: object, where: str) -> Any:
        for choice in choices:
            if raw == choice and type(raw) is type(choice):
                return choice
        text = self._sorry([Literal[choices]], raw, where)
        if isinstance(raw, str) and (near := get_close_matches(raw, [c for c in choices if isinstance(c, str)], 1)):
            text += f'; did you mean "{near[0]}"?'
        return self.complain(where, text)

    def _list(self, make: Callable[[Any], Any], kind: Any, raw: object, where: str) -> Any:
        if not isinstance(raw, list):
            return self._wrong(list[kind], raw, where)
        values = [self.value(kind, item, f"{where}[{i}]") for i, item in enumerate(raw)]
        return BAD if any(value is BAD for value in values) else make(values)

    def _dict(self, kind: Any, raw: object, where: str) -> Any:
        """Each readable entry: a wrong one has been complained of and is left out, so that the rest can be checked."""
        if not isinstance(raw, dict):
            return self._wrong(dict[str, kind], raw, where)
        values = {key: self.value(kind, item, at(where, key)) for key, item in raw.items()}
        return {key: value for key, value in values.items() if value is not BAD}

    def _plain(self, kind: Any, raw: object, where: str) -> Any:
        if type(raw) is kind and not (kind is float and not math.isfinite(raw)):  # type: ignore[arg-type]
            return raw
        if kind is float and type(raw) is int:
            return float(raw)
        return self._wrong(kind, raw, where)

    def _parsed(self, kind: Any, parse: Callable[[str], Any], raw: object, where: str) -> Any:
        if not isinstance(raw, str):
            return self._wrong(kind, raw, where)
        try:
            return parse(raw)
        except ValueError as exc:
            return self._wrong(kind, raw, where) if hidden(raw, where) else self.complain(where, str(exc))

    def _number(self, kind: Any, of_number: Callable[[Decimal], Any], raw: object, where: str) -> Any:
        """A number of which no digit is lost."""
        if type(raw) is not int and not isinstance(raw, Decimal):
            return self._wrong(kind, raw, where)
        try:
            return of_number(Decimal(raw))
        except ValueError as exc:
            return self.complain(where, str(exc))

    def _secret(self, raw: object, where: str) -> Any:
        scheme, colon, name = raw.partition(":") if isinstance(raw, str) else ("", "", "")
        if not colon or scheme not in ("env", "file", "secret") or not name:
            return self.complain(where, f"a secret is written as {SECRET_FORM}, never as itself")
        if scheme == "secret":
            return self._kept(name, where)
        if scheme == "env":
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name, re.ASCII):  # it may be the secret itself
                return self.complain(where, 'what follows "env:" is not the name of an environment variable')
            text, place = self.environ.get(name, ""), f"the environment variable {name}"
            if not text:
                return self.complain(where, f"{place} is {'empty' if name in self.environ else 'not set'}")
        else:
            path = self.folder / name
            place = f"the file {path}"
            try:
                with path.open("rb") as file:
                    text = file.read(SECRET_FILE + 1).decode().rstrip("\r\n")
            except OSError as exc:
                return self.complain(where, f"{place} can't be read: {exc.strerror or type(exc).__name__}")
            except ValueError:
                return self.complain(where, f"{place} is not text in UTF-8")
            if not text or len(text) > SECRET_FILE:
                return self.complain(where, f"{place} is {'too long for a secret' if text else 'empty'}")
        if re.search(r"[\x00-\x1f\x7f]", text):
            return self.complain(where, f"{place} holds a line break or another control character")
        return Secret(text)

    def _kept(self, name: str, where: str) -> Any:
        try:
            text = None if self.kept is None else self.kept(name)
        except ProxyError as exc:
            return self.complain(where, exc.message)
        if text is None:
            return self.complain(where, f"there is no secret '{name}' in the store; framegate secrets set {name}")
        return Secret(text)

    def _sorry(self, kinds: list[Any], raw: object, where: str) -> str:
        return f"expected {' or '.join(wanted(kind) for kind in kinds)}, found {found(raw, where)}"

    def _wrong(self, kind: Any, raw: object, where: str) -> Any:
        return self.complain(where, self._sorry([kind], raw, where))


def _holds(kind: Any, raw: object) -> bool:
    """Whether the type takes a list where one was found, or a table where one was found."""
    if isinstance(raw, list):
        return get_origin(kind) in (tuple, list)
    return get_origin(kind) in (dict, Mapping) or is_dataclass(kind)
