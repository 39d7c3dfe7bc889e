"""The nearest designs that fit a device: the fewest changed fields, and among those the least memory given up.

Fields are those of the design as written, so that a change can be made in its file. First every field alone; where none
is enough, combinations: a field's last, most far-reaching value tells whether a combination can fit, and then every
field goes back towards its old value as far as the budget allows. Memory is first bounded by the live sum, which costs
less than a placement.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from repnet_search.errors import SpecError
from repnet_search.graph import Schedule, Slopes, TrainingGraph, build_graph
from repnet_search.memory.arena import place_buffers
from repnet_search.memory.changes import SMALLEST_RESOLUTION, Change, Field, Step, list_fields, list_last_resorts
from repnet_search.memory.estimate import MemoryEstimate, estimate_graph, estimate_memory
from repnet_search.memory.explain import MemoryExplanation
from repnet_search.memory.fit import check_fit
from repnet_search.memory.liveness import compute_liveness
from repnet_search.spec.design import Design, Optimizer
from repnet_search.spec.presets import get_preset
from repnet_search.spec.resolve import ResolvedDesign, resolve
from repnet_search.spec.table import get_table
from repnet_search.spec.target import DeviceLimits

MOST_CHANGES = 4
_BEAM = 3
"""Combinations of a size from which larger ones are made: three keep the search below a second."""
_BEST = 8
"""Combinations whose fields are taken back as far as the budget allows."""


@dataclass(frozen=True, slots=True)
class NearestDesign:
    """A design that fits, what was changed for it, and its memory."""

    design: Design
    changes: tuple[Change, ...]
    memory: MemoryEstimate

    @property
    def description(self) -> str:
        """The changes as one text."""
        return ", ".join(str(change) for change in self.changes)


def find_nearest(
    design: Design,
    *,
    limits: DeviceLimits,
    classes: int,
    batch: int = 1,
    schedule: Schedule = Schedule.LAYER,
    slopes: Slopes = Slopes.EXACT,
) -> tuple[NearestDesign, ...]:
    """Returns designs that fit with as few changed fields as possible, one per field or combination, nearest first.

    Nearest is the one that gives up the least memory, then the one with the most trainable parameters. Where no change
    of `MOST_CHANGES` fields is enough, connectors go from the first on. () where not even the last layer alone fits;
    the design itself, without changes, where it fits.

    Args:
        design: as written; it need not be in its explicit form.
        limits: of the device that the result is to fit.
        classes: outputs of the head.
        batch: images of a micro-batch.
        schedule: how the target runs the frozen backbone.
        slopes: how it keeps the slopes of smooth activations.

    Raises:
        SpecError: as `build_graph`.
    """
    least = estimate_least(design, classes=classes, batch=batch, schedule=schedule)
    if _excess(least, limits) > 0:
        return ()
    return _Search(design, limits, classes, batch, schedule, slopes).run()


def estimate_least(
    design: Design, *, classes: int, batch: int = 1, schedule: Schedule = Schedule.LAYER
) -> MemoryEstimate:
    """Returns what the least design on a backbone needs: the last layer alone, small images, no state, and int8.

    A backbone with smooth activations or squeeze-and-excitation has no int8 (graph/backbone.py) and stays in fp32.
    """
    bits = 32 if get_table(design.backbone).has_smooth_parts else 8
    recipe = design.recipe.model_copy(update={"optimizer": Optimizer.SIGN_SGD, "accumulate": 1})
    resolution = min(design.resolution, SMALLEST_RESOLUTION)
    base = design.model_copy(update={"recipe": recipe, "resolution": resolution, "activation_bits": bits})
    return estimate_memory(resolve(get_preset("smallest", base)), classes=classes, batch=batch, schedule=schedule)


class _Search:
    def __init__(
        self, design: Design, limits: DeviceLimits, classes: int, batch: int, schedule: Schedule, slopes: Slopes
    ) -> None:
        self.design = design
        self.limits = limits
        self.classes = classes
        self.batch = batch
        self.schedule = schedule
        self.slopes = slopes
        self.fields = list_fields(design)
        self._bounds: dict[tuple[int, ...], int | None] = {}

    def run(self) -> tuple[NearestDesign, ...]:
        """Returns what fits with the fewest fields, nearest first."""
        unchanged = self._fitting([])
        if unchanged is not None:
            return (unchanged,)
        found = self._singles()
        beam: list[tuple[int, ...]] = [()]
        for _ in range(MOST_CHANGES - 1):
            if found:
                break
            beam = self._least(self._grow(beam))
            found = self._combinations(beam)
        found = found or self._try([list_last_resorts(self.design)])
        return tuple(sorted(found, key=lambda item: (-item.memory.ram_bytes, -item.memory.trainable_parameters)))

    def _singles(self) -> list[NearestDesign]:
        """Returns of every field the mildest value that fits; all are tried, for the last need not take the least."""
        found = []
        for field in self.fields:
            tries = (self._fitting([step]) for step in field)
            found += [nearest for nearest in [next(filter(None, tries), None)] if nearest is not None]
        return found

    def _combinations(self, beam: list[tuple[int, ...]]) -> list[NearestDesign]:
        """Returns what fits with one field more than the beam's."""
        bounds = {fields: bound for fields in self._grow(beam) if (bound := self._bound(fields)) is not None}
        fitting = sorted((fields for fields in bounds if bounds[fields] <= 0), key=lambda fields: -bounds[fields])
        return self._try([[self.fields[index] for index in fields] for fields in fitting[:_BEST]])

    def _try(self, combinations: Sequence[Sequence[Field]]) -> list[NearestDesign]:
        return [nearest for fields in combinations if (nearest := self._relax(fields)) is not None]

    def _grow(self, beam: list[tuple[int, ...]]) -> Iterator[tuple[int, ...]]:
        """Yields every combination of the beam with one more field."""
        more = (tuple(sorted((*fields, index))) for fields in beam for index in range(len(self.fields)))
        return (fields for fields in dict.fromkeys(more) if len(set(fields)) == len(fields))

    def _least(self, combinations: Iterator[tuple[int, ...]]) -> list[tuple[int, ...]]:
        """Returns the combinations whose last values need least."""
        bounds = {fields: bound for fields in combinations if (bound := self._bound(fields)) is not None}
        return sorted(bounds, key=lambda fields: bounds[fields])[:_BEAM]

    def _bound(self, combination: tuple[int, ...]) -> int | None:
        """Returns a lower bound of what is too much at the fields' last values; None where they are no design."""
        if combination not in self._bounds:
            built = self._build([self.fields[index][-1] for index in combination])
            self._bounds[combination] = None if built is None else _excess(_bound(built[1], built[2]), self.limits)
        return self._bounds[combination]

    def _relax(self, fields: Sequence[Field]) -> NearestDesign | None:
        """Returns a design with every field as near to its old value as the budget allows; None where none fits."""
        steps = {index: field[-1] for index, field in enumerate(fields)}
        best = self._fitting(list(steps.values()))
        if best is None:
            return None
        for index, field in enumerate(fields):
            others = [step for other, step in steps.items() if other != index]
            if (without := self._fitting(others)) is not None:
                best = without
                del steps[index]
                continue
            for step in field[:-1]:
                milder = self._fitting([*others, step])
                if milder is not None:
                    best, steps[index] = milder, step
                    break
        return best

    def _fitting(self, steps: Sequence[Step]) -> NearestDesign | None:
        """Returns the changed design where it is one and fits."""
        built = self._build(steps)
        if built is None:
            return None
        design, resolved, graph = built
        liveness = compute_liveness(graph)
        bound = estimate_graph(resolved, graph, liveness, arena_bytes=liveness.peak_bytes)
        if _excess(bound, self.limits) > 0:
            return None
        arena = place_buffers(liveness)
        memory = estimate_graph(resolved, graph, liveness, arena_bytes=arena.size_bytes)
        if not check_fit(MemoryExplanation(resolved, memory, graph, liveness, arena), self.limits).fits:
            return None
        return NearestDesign(design, tuple(step.change for step in steps), memory)

    def _build(self, steps: Sequence[Step]) -> tuple[Design, ResolvedDesign, TrainingGraph] | None:
        """Returns the changed design, None where it is no legal one, such as groups that do not divide."""
        design = self.design
        for step in steps:
            design = step.apply(design)
        try:
            resolved = resolve(design)
            return (
                design,
                resolved,
                build_graph(
                    resolved, classes=self.classes, batch=self.batch, schedule=self.schedule, slopes=self.slopes
                ),
            )
        except SpecError:
            return None


def _bound(resolved: ResolvedDesign, graph: TrainingGraph) -> MemoryEstimate:
    """Returns what a design needs where its arena is placed at the live sum."""
    liveness = compute_liveness(graph)
    return estimate_graph(resolved, graph, liveness, arena_bytes=liveness.peak_bytes)


def _excess(memory: MemoryEstimate, limits: DeviceLimits) -> int:
    """Returns how far a design is from its limits, that of RAM or of flash; at most 0 within both."""
    excess = memory.ram_bytes - limits.ram_bytes
    return excess if limits.flash_bytes is None else max(excess, memory.flash_bytes - limits.flash_bytes)
