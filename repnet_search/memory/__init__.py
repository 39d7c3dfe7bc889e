"""Training memory of a design: lifetimes, placed arena, regions, flash, the accounts."""

from repnet_search.memory.accounts import Account, AccountFigure, compare_accounts
from repnet_search.memory.arena import Arena, place_buffers
from repnet_search.memory.eager import count_kept_bytes
from repnet_search.memory.estimate import MemoryEstimate, estimate_lower_bound, estimate_memory
from repnet_search.memory.explain import AliveBuffer, MemoryExplanation, Peak, PlaceMemory, explain_memory
from repnet_search.memory.fit import Fit, StateTensor, check_fit, list_state
from repnet_search.memory.flash import FlashEstimate, check_backbone_fits, describe_missing_flash, estimate_flash
from repnet_search.memory.liveness import Buffer, Liveness, compute_liveness
from repnet_search.memory.macs import estimate_step_seconds
from repnet_search.memory.nearest import NearestDesign, find_nearest
from repnet_search.memory.paper import PaperEstimate, PaperLayer, estimate_paper, list_paper_layers
from repnet_search.memory.parameters import recipe_bytes_per_parameter
from repnet_search.memory.regions import RegionPlan, Spot, place_in_regions
from repnet_search.memory.ways_out import WaysOut, find_ways_out

__all__ = [
    "Account",
    "AccountFigure",
    "AliveBuffer",
    "Arena",
    "Buffer",
    "Fit",
    "FlashEstimate",
    "Liveness",
    "MemoryEstimate",
    "MemoryExplanation",
    "NearestDesign",
    "PaperEstimate",
    "PaperLayer",
    "Peak",
    "PlaceMemory",
    "RegionPlan",
    "Spot",
    "StateTensor",
    "WaysOut",
    "check_backbone_fits",
    "check_fit",
    "compare_accounts",
    "compute_liveness",
    "count_kept_bytes",
    "describe_missing_flash",
    "estimate_flash",
    "estimate_lower_bound",
    "estimate_memory",
    "estimate_paper",
    "estimate_step_seconds",
    "explain_memory",
    "find_nearest",
    "find_ways_out",
    "list_paper_layers",
    "list_state",
    "place_buffers",
    "place_in_regions",
    "recipe_bytes_per_parameter",
]
