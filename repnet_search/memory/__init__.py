"""Training memory of a design: lifetimes, placed arena, the accounts."""

from repnet_search.memory.accounts import Account, AccountFigure, compare_accounts
from repnet_search.memory.arena import Arena, place_buffers
from repnet_search.memory.eager import count_kept_bytes
from repnet_search.memory.estimate import MemoryEstimate, estimate_lower_bound, estimate_memory
from repnet_search.memory.explain import AliveBuffer, MemoryExplanation, Peak, PlaceMemory, explain_memory
from repnet_search.memory.liveness import Buffer, Liveness, compute_liveness
from repnet_search.memory.nearest import NearestDesign, find_nearest
from repnet_search.memory.paper import PaperEstimate, PaperLayer, estimate_paper, list_paper_layers
from repnet_search.memory.parameters import recipe_bytes_per_parameter
from repnet_search.memory.ways_out import WaysOut, find_ways_out

__all__ = [
    "Account",
    "AccountFigure",
    "AliveBuffer",
    "Arena",
    "Buffer",
    "Liveness",
    "MemoryEstimate",
    "MemoryExplanation",
    "NearestDesign",
    "PaperEstimate",
    "PaperLayer",
    "Peak",
    "PlaceMemory",
    "WaysOut",
    "compare_accounts",
    "compute_liveness",
    "count_kept_bytes",
    "estimate_lower_bound",
    "estimate_memory",
    "estimate_paper",
    "explain_memory",
    "find_nearest",
    "find_ways_out",
    "list_paper_layers",
    "place_buffers",
    "recipe_bytes_per_parameter",
]
