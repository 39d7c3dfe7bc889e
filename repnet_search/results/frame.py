"""A study as a pandas data frame: a row per trial, for whoever wants to plot or compare by themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from repnet_search.results.confirmation import Confirmation
from repnet_search.results.record import TrialRecord

if TYPE_CHECKING:
    import pandas as pd


def create_frame(
    records: Sequence[TrialRecord], *, confirmed: Mapping[str, Confirmation], tested: Mapping[str, float]
) -> pd.DataFrame:
    """Returns a row per trial, in their order, with the trial's number as its index.

    Accuracies are in 0..1, sizes in bytes, missing where a design was not trained or not confirmed; `half_interval`s
    are half the 95 % interval over the confirmation's seeds. Columns that begin with `memory_` are the terms of the
    training memory `ram_bytes`, those with `connector_` lists with an item per connector, in the order of the blocks.

    Args:
        records: the trials of a study.
        confirmed: what training again gave, by design id.
        tested: test accuracies by design id.
    """
    import pandas as pd

    rows = [_row(record, confirmed, tested) for record in records]
    return pd.DataFrame(rows, index=pd.Index([record.number for record in records], name="trial"))


def _row(record: TrialRecord, confirmed: Mapping[str, Confirmation], tested: Mapping[str, float]) -> dict[str, Any]:
    return {
        "design_id": record.design_id,
        "outcome": record.outcome.value,
        "origin": record.origin.value,
        "ram_bytes": record.ram_bytes,
        "flash_bytes": record.flash_bytes,
        "trainable_parameters": record.trainable_parameters,
        "validation_accuracy": record.validation_accuracy,
        **_confirmation(confirmed.get(record.design_id)),
        "test_accuracy": tested.get(record.design_id),
        "elapsed_seconds": record.elapsed_seconds,
        "reason": record.reason,
        **{f"memory_{name.replace(' ', '_')}_bytes": size for name, size in record.terms},
        **_design(record),
    }


def _confirmation(confirmation: Confirmation | None) -> dict[str, Any]:
    mean, half = confirmation.validation if confirmation is not None else (None, None)
    return {
        "confirmed_accuracy": mean,
        "confirmed_half_interval": half,
        "confirmed_seeds": len(confirmation.runs) if confirmation is not None else 0,
    }


def _design(record: TrialRecord) -> dict[str, Any]:
    """Returns the fields of a design, flat."""
    design = record.design
    modules = [design.module_of(index) for index in range(len(design.connectors))]
    return {
        "backbone": design.backbone.name,
        "width_mult": design.backbone.width_mult,
        "resolution": design.resolution,
        "activation_bits": design.activation_bits,
        "image_pool": design.image_pool,
        "module_input": design.module_input.value,
        "train_bias": design.train_bias,
        **{f"recipe_{name}": value for name, value in design.recipe.model_dump(mode="json").items()},
        "connectors": len(design.connectors),
        "connector_after_block": [connector.after_block for connector in design.connectors],
        "connector_exchange": [connector.exchange.value for connector in design.connectors],
        **{
            f"connector_{name}": [getattr(module, name) for module in modules]
            for name in ("depth", "width", "kernel", "groups", "pool", "norm", "weight_standardisation")
        },
    }
