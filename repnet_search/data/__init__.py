"""Labelled images: the embedded digits, a user's folders and .npz files, published sets; in splits no seed changes."""

from __future__ import annotations

from repnet_search.data.create import create_source
from repnet_search.data.digits import EmbeddedDigits
from repnet_search.data.folders import ImageFolders
from repnet_search.data.known_sets import KNOWN_SETS, KnownImages
from repnet_search.data.npz import NpzImages
from repnet_search.data.source import DataSource, ImageSet, Split
from repnet_search.data.stored import StoredImages

__all__ = [
    "KNOWN_SETS",
    "DataSource",
    "EmbeddedDigits",
    "ImageFolders",
    "ImageSet",
    "KnownImages",
    "NpzImages",
    "Split",
    "StoredImages",
    "create_source",
]
