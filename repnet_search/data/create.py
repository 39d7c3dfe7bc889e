"""The one place that turns what --data says into a data source."""

from __future__ import annotations

import os
from pathlib import Path

from repnet_search.data.decoded_cache import DEFAULT_LIMIT_BYTES, create_cache
from repnet_search.data.digits import EmbeddedDigits
from repnet_search.data.folders import ImageFolders
from repnet_search.data.known_sets import KNOWN_SETS, KnownImages
from repnet_search.data.npz import NpzImages
from repnet_search.data.source import DataSource
from repnet_search.errors import DataError, suggest


def create_source(
    data: Path | None,
    *,
    proxy_images: int | None = None,
    skip_broken: bool = False,
    root: Path | None = None,
    download: bool = False,
    cache_bytes: int = DEFAULT_LIMIT_BYTES,
) -> DataSource:
    """Returns the images that `data` names, or the embedded digits where it is None.

    Args:
        data: DIR with DIR/CLASS/* or DIR/train/CLASS/* in it, an .npz file, or (with `root`) one of KNOWN_SETS.
        proxy_images: training and validation images together that are used; None uses all.
        skip_broken: whether files that cannot be used are left out and noted, instead of refused.
        root: the folder that holds the data sets that are given by name.
        download: whether a data set by name is fetched where it is missing.
        cache_bytes: the limit of decoded images kept on disk; 0 keeps none.

    Raises:
        DataError: the images cannot be used as they are, or proxy_images is too small.
    """
    if data is None:
        if root is not None or download:
            raise DataError("--data-root and --download are for data sets by name; name one with --data.")
        return EmbeddedDigits(proxy_images=proxy_images)
    cache = create_cache(limit_bytes=cache_bytes)
    if is_known(data, root=root):
        if root is None:
            raise DataError(
                f"The data set {data} needs --data-root DIR, the folder that holds it or that --download puts it into; "
                f"for a folder of your own give its path."
            )
        return KnownImages(
            os.fspath(data), root, download=download, proxy_images=proxy_images, skip_broken=skip_broken, cache=cache
        )
    if root is not None or download:
        raise DataError(
            f"With --data-root and --download, --data must be a data set by name ({', '.join(KNOWN_SETS)}), but is "
            f"'{data}'; correct the name or leave them out.{suggest(os.fspath(data), KNOWN_SETS)}"
        )
    near = "" if data.exists() or data.name != os.fspath(data) else suggest(os.fspath(data), KNOWN_SETS)
    if near:
        raise DataError(
            f"--data must be a folder, an .npz file or the name of a data set, but '{data}' is none of them; correct "
            f"it.{near}"
        )
    if data.suffix.lower() == ".npz" and not data.is_dir():
        return NpzImages(data, proxy_images=proxy_images, skip_broken=skip_broken, cache=cache)
    return ImageFolders(data, proxy_images=proxy_images, skip_broken=skip_broken, cache=cache)


def is_known(data: Path, *, root: Path | None) -> bool:
    """Returns whether `data` names a data set; without a root, a folder of the same name goes first."""
    return os.fspath(data) in KNOWN_SETS and (root is not None or not data.exists())
