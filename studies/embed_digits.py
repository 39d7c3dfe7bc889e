"""Makes the package's small data file of handwritten digits from the table that scikit-learn ships.

    python studies/embed_digits.py [--from FILE] [--to FILE]

FILE is `digits.csv.gz`, `scikit_learn-*.whl` (the table is read out of the wheel; nothing gets installed), or left out:
then an installed scikit-learn is looked up. scikit-learn, scipy and joblib weigh 197 MB, the file made here 45 kB.
"""

from __future__ import annotations

import argparse
import gzip
import importlib.util
import os
import sys
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

TABLE_NAME = "digits.csv.gz"
TABLE_IN_WHEEL = f"sklearn/datasets/data/{TABLE_NAME}"
IMAGE_COUNT = 1797
SIDE_PIXELS = 8
MAX_VALUE = 16
DEFAULT_TARGET = Path(__file__).resolve().parents[1] / "repnet_search" / "data" / "embedded" / "digits.npz"


def find_installed_table() -> Path:
    """Returns the path of the table in an installed scikit-learn.

    Raises:
        FileNotFoundError: scikit-learn, or its table, is not installed.
    """
    spec = importlib.util.find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("scikit-learn is not installed: install it, or give its table or wheel with --from.")
    table = Path(spec.origin).parent / "datasets" / "data" / TABLE_NAME
    if not table.is_file():
        raise FileNotFoundError(f"This scikit-learn has no {TABLE_NAME} in {table.parent}: give the table with --from.")
    return table


def load_table(path: Path) -> NDArray[np.float64]:
    """Returns the table, (1797, 65): 64 values 0..16, row by row of an image, then the digit.

    Raises:
        ValueError: the file holds something else.
    """
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            packed = wheel.read(TABLE_IN_WHEEL)
    else:
        packed = path.read_bytes()
    table = np.loadtxt(gzip.decompress(packed).decode("ascii").splitlines(), delimiter=",")
    wanted = (IMAGE_COUNT, SIDE_PIXELS**2 + 1)
    if table.shape != wanted:
        raise ValueError(f"{path} holds a table of {table.shape}, not {wanted}: give scikit-learn's own {TABLE_NAME}.")
    return table


def split_table(table: NDArray[np.float64]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Returns images (1797, 8, 8) with values 0..16 and labels (1797,) with values 0..9, in the table's order.

    Raises:
        ValueError: a value is no whole number of its range, so that uint8 would change it.
    """
    pixels, digits = table[:, :-1], table[:, -1]
    for name, values, top in (("pixel", pixels, MAX_VALUE), ("label", digits, 9)):
        if not (np.array_equal(values, np.round(values)) and values.min() >= 0 and values.max() <= top):
            raise ValueError(f"A {name} is not a whole number of 0..{top}: give scikit-learn's own {TABLE_NAME}.")
    images = pixels.astype(np.uint8).reshape(-1, SIDE_PIXELS, SIDE_PIXELS)
    return images, digits.astype(np.uint8)


def save_digits(images: NDArray[np.uint8], *, labels: NDArray[np.uint8], path: Path) -> None:
    """Writes both arrays to a compressed npz, under a temporary name first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    with temporary.open("wb") as file:
        np.savez_compressed(file, images=images, labels=labels)
    os.replace(temporary, path)


def main(arguments: list[str]) -> int:
    """Returns the exit status: 0, or 1 after one sentence on what is missing."""
    parser = argparse.ArgumentParser(description="Make digits.npz from scikit-learn's digits.csv.gz.")
    parser.add_argument("--from", dest="source", type=Path, help="digits.csv.gz or a scikit-learn wheel")
    parser.add_argument("--to", dest="target", type=Path, default=DEFAULT_TARGET, help="the npz to write")
    options = parser.parse_args(arguments)
    try:
        images, labels = split_table(load_table(options.source or find_installed_table()))
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    save_digits(images, labels=labels, path=options.target)
    print(f"{options.target}: {len(images)} images, {options.target.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
