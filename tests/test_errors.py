"""What is said of errors of the operating system."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from repnet_search.errors import describe_os_error
from repnet_search.spec.files import save_bytes, save_text

Complains = Callable[..., str]


def test_only_a_full_disk_asks_for_room() -> None:
    assert describe_os_error(OSError(errno.ENOSPC, "No space left on device", "a/b")) == (
        "No space left on device (a/b); make room, or use another folder. What was finished is kept."
    )
    assert describe_os_error(OSError(errno.EROFS, "Read-only file system", "a/b")).startswith(
        "Read-only file system (a/b); use another file or folder"
    )


def test_the_target_is_named_and_no_folder_made(tmp_path: Path) -> None:
    target = tmp_path / "none" / "plan.json"
    with pytest.raises(FileNotFoundError) as error:
        save_text(target, "{}")
    assert error.value.filename == str(target)
    assert list(tmp_path.iterdir()) == []
    save_bytes(target, b"{}", make_folder=True)
    assert [path.name for path in target.parent.iterdir()] == ["plan.json"]


def test_nothing_is_left_where_the_target_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "plan.json").mkdir()
    with pytest.raises(OSError, match="directory"):
        save_bytes(tmp_path / "plan.json", b"{}")
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]
