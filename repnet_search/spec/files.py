"""YAML in and out for the value classes, with one-sentence errors that name the path inside the file."""

from __future__ import annotations

import io
import os
import tempfile
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from repnet_search.errors import SpecError, suggest
from repnet_search.spec.design import Design
from repnet_search.spec.space import SpaceSpec

Spec = TypeVar("Spec", bound=BaseModel)

_OF_SPACES = frozenset(SpaceSpec.model_fields) - frozenset(Design.model_fields)

# What pydantic puts into a location beside fields and positions, for fields of several kinds.
_KINDS = ("int", "float", "str", "bool", "tuple")


def load_design(path: str | Path) -> Design:
    """Returns the design of a YAML file.

    Raises:
        SpecError: the file is missing, is no YAML, or holds an unknown key or a mistyped value.
    """
    return load_spec(Design, path)


def load_spec(kind: type[Spec], path: str | Path) -> Spec:
    """Returns the value of a YAML file as an instance of `kind`.

    Raises:
        SpecError: as for `load_design`.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SpecError(f"The file {path} cannot be read: {reason}.") from error
    return parse_spec(kind, text, source=str(path))


def parse_spec(kind: type[Spec], text: str, *, source: str) -> Spec:
    """Returns the value of a YAML text; `source` names it in errors.

    Raises:
        SpecError: the text is no YAML, or holds an unknown key or a mistyped value.
    """
    try:
        value = YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        raise SpecError(f"{source} is not valid YAML: {_first_line(error)}.") from error
    if not isinstance(value, dict):
        raise SpecError(f"{source} must be a mapping of fields, but is {_kind_of(value)}.")
    return validate_spec(kind, value, source=source)


def validate_spec(kind: type[Spec], value: dict[str, Any], *, source: str) -> Spec:
    """Returns a mapping as an instance of `kind`.

    Raises:
        SpecError: an unknown key or a mistyped value, with its path.
    """
    _check_kind(kind, value, source=source)
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise SpecError(f"{source}: {_sentence(kind, error.errors(include_url=False))}") from error
    except SpecError as error:  # of the registry of backbones
        raise SpecError(f"{source}: {error}") from error


def dump_yaml(value: dict[str, Any]) -> str:
    """Returns a mapping as YAML, keys in their order, scalar lists and small mappings on one line."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = None
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # typed as None in ruamel.yaml 0.19
    yaml.width = 200  # a connector on one line
    stream = io.StringIO()
    yaml.dump(value, stream)
    return stream.getvalue()


def design_to_yaml(design: Design) -> str:
    """Returns a design as YAML; fields that a connector leaves to `module` are left out."""
    return dump_yaml(design.model_dump(mode="json", exclude_none=True))


def save_text(path: str | Path, text: str) -> None:
    """Writes a text file so that a half-written one never has the name; raises as `save_bytes` does."""
    save_bytes(path, text.encode())


def save_bytes(path: str | Path, data: bytes, *, make_folder: bool = False) -> None:
    """Writes a file under a temporary name, then renames it.

    Args:
        path: where it goes.
        data: what is in it.
        make_folder: whether a missing folder is made: in a cache, but not where a user may have mistyped it.

    Raises:
        OSError: it cannot be written; names `path`, never the temporary name.
    """
    path = Path(path)
    try:
        if make_folder:
            path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, data)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def _replace(path: Path, data: bytes) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _check_kind(kind: type[BaseModel], value: dict[str, Any], *, source: str) -> None:
    """Raises SpecError where a design is given for a search space, or the other way round."""
    if kind is SpaceSpec and "connectors" in value:
        raise SpecError(f"{source} is a design, but a search space is wanted here; 'spaces' lists some to start from.")
    if kind is Design and "connectors" not in value and not _OF_SPACES.isdisjoint(value):
        raise SpecError(f"{source} is a search space, but a design is wanted here; give a file with its connectors.")


def _sentence(kind: type[BaseModel], errors: list[ErrorDetails]) -> str:
    """Returns the most telling error: a misspelt key explains a missing one, so it goes first."""
    error = next((error for error in errors if error["type"] == "extra_forbidden"), errors[0])
    path = _path(error["loc"])
    if error["type"] == "extra_forbidden":
        return f"{path} is not a field here.{suggest(str(error['loc'][-1]), _fields_at(kind, error['loc'][:-1]))}"
    if error["type"] == "missing":
        return f"{path} is missing and has no default."
    # A field of several kinds has an error for each, at the same path.
    rules = [_rule(other) for other in errors if _path(other["loc"]) == path]
    return f"{path} must be {' or '.join(dict.fromkeys(rules))}, but got {error['input']!r}."


def _rule(error: ErrorDetails) -> str:
    if error["type"] == "tuple_type":
        return "a list of choices"
    if error["type"] == "too_short":
        return "a list of at least one choice"
    return error["msg"].removeprefix("Value error, ").removeprefix("Input should be ")


def _fields_at(kind: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Returns the field names of the model at a place inside `kind`, found by walking its annotations."""
    model: type[BaseModel] = kind
    for part in location:
        field = model.model_fields.get(str(part))
        if field is not None:
            model = next(iter(_models_in(field.annotation)), model)
    return list(model.model_fields)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in _models_in(part)]


def _path(location: tuple[int | str, ...]) -> str:
    """Returns a pydantic location as text.

    >>> _path(("connectors", 2, "after_block"))
    'connectors[2].after_block'
    """
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part.isidentifier() and part not in _KINDS:
            text += f".{part}" if text else part
    return text


def _kind_of(value: object) -> str:
    if value is None:
        return "empty"
    return {"str": "text", "list": "a list"}.get(type(value).__name__, f"a single {type(value).__name__}")


def _first_line(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return f"{problem} (line {mark.line + 1})" if mark is not None else str(problem)
