"""torchvision, imported once for the whole package.

The torchvision wheel's compiled operators are built for CUDA. Beside a CPU build of torch its import fails with
"operator torchvision::nms does not exist" (pytorch/vision#9337), although nothing here needs them. Declaring the two
operators that torchvision refers to at import time is enough. Every other module takes torchvision from here (ruff's
banned-api rule says so).
"""

from __future__ import annotations

import torch

_MISSING_OPERATOR = "operator torchvision::nms does not exist"

try:
    import torchvision  # noqa: TID251 - this is the one place
except RuntimeError as error:
    if _MISSING_OPERATOR not in str(error):
        raise
    # The library object must stay alive: its operators go with it.
    _declared = torch.library.Library("torchvision", "FRAGMENT")
    _declared.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _declared.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision  # noqa: TID251

__all__ = ["torchvision"]
