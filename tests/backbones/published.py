"""ProxylessNAS-Mobile as it is published, written down a second time for the tests."""

from __future__ import annotations

# in, out, kernel, stride, expansion of the blocks behind the stem; the two between 2 and 5 do nothing
PROXYLESSNAS_MOBILE = {
    0: (32, 16, 3, 1, 1),
    1: (16, 32, 5, 2, 3),
    2: (32, 32, 3, 1, 3),
    5: (32, 40, 7, 2, 3),
    6: (40, 40, 3, 1, 3),
    7: (40, 40, 5, 1, 3),
    8: (40, 40, 5, 1, 3),
    9: (40, 80, 7, 2, 6),
    10: (80, 80, 5, 1, 3),
    11: (80, 80, 5, 1, 3),
    12: (80, 80, 5, 1, 3),
    13: (80, 96, 5, 1, 6),
    14: (96, 96, 5, 1, 3),
    15: (96, 96, 5, 1, 3),
    16: (96, 96, 5, 1, 3),
    17: (96, 192, 7, 2, 6),
    18: (192, 192, 7, 1, 6),
    19: (192, 192, 7, 1, 3),
    20: (192, 192, 7, 1, 3),
    21: (192, 320, 7, 1, 6),
}
