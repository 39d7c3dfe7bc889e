"""A user's folders of images: DIR/CLASS/* or DIR/train/CLASS/* with val/ and test/ beside it."""

from __future__ import annotations

import os
from pathlib import Path

from repnet_search.data.decoded_cache import DecodedCache, create_cache
from repnet_search.data.file_index import FileIndex
from repnet_search.data.scan import scan_folder
from repnet_search.data.source import DataKind, Split
from repnet_search.data.splits import Item
from repnet_search.data.stored import Collection, StoredImages
from repnet_search.data.stores import FileStore, printable


class ImageFolders(StoredImages):
    """Images in folders, one per class.

    Test set: test/, else val/, else 20 % of each class. Validation: val/ where there is also test/, else 20 % of
    what is left to train.
    """

    def __init__(
        self,
        path: Path,
        *,
        proxy_images: int | None = None,
        skip_broken: bool = False,
        cache: DecodedCache | None = None,
    ) -> None:
        """Lists the files and reads their headers, but no pixels.

        Args:
            path: DIR with DIR/CLASS/* or DIR/train/CLASS/* in it.
            proxy_images: training and validation images together that are used; None uses all.
            skip_broken: whether files that cannot be used are left out and noted, instead of refused.
            cache: keeps headers, hashes and decoded images; None is the user's, with its default limit.

        Raises:
            DataError: the folder cannot be used as it is, or proxy_images is too small.
        """
        root = Path(path)
        cache = cache or create_cache()
        index = FileIndex(root, folder=cache.folder)
        scan = scan_folder(root, index=index, skip_broken=skip_broken)
        pools: dict[Split, list[Item]] = {}
        paths: list[str] = []
        for split, files in scan.files.items():
            first = len(paths)
            pools[split] = [Item(first + row, file.label, file.name) for row, file in enumerate(files)]
            paths += [file.path for file in files]
        collection = Collection(
            name=printable(os.path.basename(os.path.abspath(root))) or "images",
            kind=DataKind.FOLDER,
            classes=scan.classes,
            store=FileStore(paths, index=index),
            pools=pools,
            skipped=scan.skipped,
        )
        super().__init__(collection, cache=cache, proxy_images=proxy_images, skip_broken=skip_broken)
