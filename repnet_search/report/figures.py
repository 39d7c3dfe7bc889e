"""All figures that the study browser and the report share, under one name: pure functions, data in, plotly out."""

from __future__ import annotations

from repnet_search.report.design_drawing import DesignDrawing, create_drawing, drawing_rows
from repnet_search.report.figures_confusion import (
    confusion_rows,
    create_classes_figure,
    create_confusion_figure,
    create_saturation_figure,
)
from repnet_search.report.figures_design import create_design_figure
from repnet_search.report.figures_front import create_front_figure
from repnet_search.report.figures_funnel import FunnelStep, create_funnel_figure, list_failures, list_funnel
from repnet_search.report.figures_importance import create_importance_figure
from repnet_search.report.figures_learning import create_losses_figure
from repnet_search.report.figures_memory import create_blocks_figure, create_terms_figure, list_block_bytes
from repnet_search.report.figures_regions import create_regions_figure, region_rows
from repnet_search.report.figures_step import alive_rows, buffer_rows, create_memory_figure
from repnet_search.report.front_points import FrontPoint, list_front_points
from repnet_search.report.memory_plot import MemoryPicture, create_picture

__all__ = [
    "DesignDrawing",
    "FrontPoint",
    "FunnelStep",
    "MemoryPicture",
    "alive_rows",
    "buffer_rows",
    "confusion_rows",
    "create_blocks_figure",
    "create_classes_figure",
    "create_confusion_figure",
    "create_design_figure",
    "create_drawing",
    "create_front_figure",
    "create_funnel_figure",
    "create_importance_figure",
    "create_losses_figure",
    "create_memory_figure",
    "create_picture",
    "create_regions_figure",
    "create_saturation_figure",
    "create_terms_figure",
    "drawing_rows",
    "list_block_bytes",
    "list_failures",
    "list_front_points",
    "list_funnel",
    "region_rows",
]
