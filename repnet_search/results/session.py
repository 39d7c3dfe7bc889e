"""What each run of a study was made with: nothing that decides what the study is, all that tells why two differ."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from importlib import import_module, metadata
from typing import Annotated

import optuna
from pydantic import Field

from repnet_search.spec.design import SpecModel
from repnet_search.spec.files import validate_spec

SESSION_KEY = "repnet_session"
PACKAGES = ("torch", "torchvision", "optuna", "numpy")
"""Those whose versions results depend on, beside our own."""


def find_versions() -> dict[str, str]:
    """Returns the versions here of what results depend on, and the kind of machine."""
    own = str(import_module("repnet_search").__version__)  # by name: the package imports everything above this
    found = {"repnet-search": own, "Python": platform.python_version()}
    found |= {name: metadata.version(name) for name in PACKAGES}
    return found | {"machine": f"{platform.system()} {platform.machine()}"}


class Session(SpecModel):
    """One run of a study: when it began, its workers, what it was to confirm, studies it began with, versions."""

    started: str = Field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="microseconds"))
    workers: int = Field(ge=1)
    confirm: int = Field(ge=0)
    confirm_seeds: int = Field(ge=1)
    confirm_epochs: int = Field(ge=1)
    warm_start: Annotated[tuple[str, ...], Field(strict=False)] = ()
    versions: dict[str, str] = Field(default_factory=find_versions)


def add_session(study: optuna.Study, session: Session) -> None:
    """Notes in a study that a run begins; each has an attribute of its own, so that two at once lose nothing."""
    study.set_user_attr(f"{SESSION_KEY}:{session.started}", session.model_dump(mode="json"))


def read_sessions(study: optuna.Study) -> tuple[Session, ...]:
    """Returns the runs of a study, the first one first; studies of earlier versions hold none.

    Raises:
        SpecError: one is damaged.
    """
    attrs = study.user_attrs
    keys = sorted(key for key in attrs if key.startswith(f"{SESSION_KEY}:"))
    return tuple(validate_spec(Session, attrs[key], source=f"study {study.study_name!r}") for key in keys)
