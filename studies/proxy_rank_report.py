"""What studies/proxy_rank.py recorded, as Markdown: how alike each setting ranks, and which is to be the default."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from studies.ranking import Estimate, Floats, Pair, estimate_regret, estimate_tau, kendall_tau
from studies.recording import Line

MOST_REGRET = 1.0
"""Points that the best of a default's top 3 may be behind the best of all, at the upper end of the interval too."""

FEWEST_DESIGNS = 20
"""Of fewer the top 3 are hardly a choice."""

CANDIDATES = ("default", "half", "third")
"""The settings that may become the default; the others show what an option does."""

LONGER = "validated"
"""What is taken where none of them is good enough: to train for long, and to judge by the validation images."""


@dataclass(frozen=True, slots=True)
class Row:
    """How one way to rank designs did: CPU seconds per design, tau, regret of the top 1 and the top 3 in points."""

    label: str
    cpu_seconds: float
    tau: Estimate
    regrets: tuple[Estimate, Estimate]

    def to_markdown(self) -> str:
        """Returns a line of the table."""
        first, third = (regret.format(".1f") for regret in self.regrets)
        return f"| {self.label} | {self.cpu_seconds:.1f} | {self.tau.format('.2f')} | {first} | {third} |"


@dataclass(frozen=True, slots=True)
class Recorded:
    """A record as arrays over designs (N,), accuracies in points."""

    about: Line
    lines: Sequence[Line]

    @property
    def memory(self) -> Floats:
        """Training memory in bytes."""
        return np.array([line["ram_bytes"] for line in self.lines], dtype=np.float64)

    @property
    def tests(self) -> list[Floats]:
        """Test accuracy of the long training, by seed."""
        return list(100 * np.array([line["test"] for line in self.lines], dtype=np.float64).T)

    @property
    def long(self) -> Floats:
        """Test accuracy of the long training, the mean over its seeds."""
        found: Floats = np.array(self.tests).mean(axis=0)
        return found

    def long_validation(self, seed: int) -> Floats:
        """Returns the validation accuracy of the long training from the seed of this place."""
        return 100 * np.array([line["long"][seed]["validation"] for line in self.lines], dtype=np.float64)

    def validation(self, name: str, *, epoch: int | None = None) -> Floats:
        """Returns the validation accuracy of a setting, at its end or at a rung."""
        proxies = [line["proxies"][name] for line in self.lines]
        found = [item["validation"] if epoch is None else item["rungs"][str(epoch)] for item in proxies]
        return 100 * np.array(found, dtype=np.float64)

    def cpu_seconds(self, name: str) -> float:
        """Returns what a training in a setting takes, the mean over designs."""
        return float(np.mean([line["proxies"][name]["cpu_seconds"] for line in self.lines]))

    def describe(self, name: str) -> str:
        """Returns a setting in words."""
        setting = self.about["proxies"][name]
        train, validation, _ = self.about["images"][setting["images"]]
        kept = "" if setting["features"] == "fp32" else f", features kept as {setting['features']}"
        return f"{setting['epochs']} epochs, {train} + {validation} images{kept}"


def find_rows(recorded: Recorded) -> dict[str, Row]:
    """Returns the long training's own rows, and one for each setting."""
    tests, memory = recorded.tests, recorded.memory
    long_seconds = float(np.mean([item["cpu_seconds"] for line in recorded.lines for item in line["long"]]))
    epochs = recorded.about["long"]["epochs"]
    other = [(tests[0], tests[1]), (tests[1], tests[0])]
    validated = [(recorded.long_validation(0), tests[1]), (recorded.long_validation(1), tests[0])]
    rows = {
        "ceiling": _row(f"long training, {epochs} epochs, in its other seed", long_seconds, other, other, memory),
        "validated": _row("the same by its validation images", long_seconds, validated, validated, memory),
    }
    for name in recorded.about["proxies"]:
        label = recorded.describe(name) + (" (the present setting)" if name == "default" else "")
        rows[name] = _proxy_row(recorded, label, recorded.cpu_seconds(name), recorded.validation(name))
    whole = recorded.about["training"]["epochs"]
    for epoch in map(int, recorded.lines[0]["proxies"]["default"]["rungs"]):
        seconds = recorded.cpu_seconds("default") * epoch / whole
        scores = recorded.validation("default", epoch=epoch)
        rows[f"rung {epoch}"] = _proxy_row(recorded, f"the present setting, after epoch {epoch}", seconds, scores)
    return rows


def _proxy_row(recorded: Recorded, label: str, cpu_seconds: float, scores: Floats) -> Row:
    """Returns a proxy's row: tau with each seed of the long training, regret in their mean."""
    pairs = [(scores, test) for test in recorded.tests]
    return _row(label, cpu_seconds, pairs, [(scores, recorded.long)], recorded.memory)


def _row(label: str, cpu_seconds: float, ranked: Sequence[Pair], trusted: Sequence[Pair], memory: Floats) -> Row:
    regrets = (estimate_regret(trusted, memory, top=1), estimate_regret(trusted, memory, top=3))
    return Row(label, cpu_seconds, estimate_tau(ranked), regrets)


def choose_default(rows: dict[str, Row]) -> str | None:
    """Returns the cheapest setting whose top 3 are near enough to the best, None where there is none."""
    near = [name for name in (*CANDIDATES, LONGER) if rows[name].regrets[1].high <= MOST_REGRET + 1e-9]
    return min(near, key=lambda name: rows[name].cpu_seconds, default=None)


def describe_choice(rows: dict[str, Row], *, designs: int) -> str:
    """Returns which setting is to be the default on such a task, and why."""
    if designs < FEWEST_DESIGNS:
        return f"{designs} designs are too few to choose from: three of them are a good part of all."
    chosen = choose_default(rows)
    if chosen is None:
        least = rows[min(CANDIDATES, key=lambda name: rows[name].regrets[1].value)]
        return (
            f"No setting has a top-3 regret of at most {MOST_REGRET:g} point; the least is "
            f"{least.regrets[1].format('.1f')}, of {least.label}. The present setting stays, and is not good enough."
        )
    row = rows[chosen]
    share = row.cpu_seconds / rows["default"].cpu_seconds
    if chosen == LONGER:
        ceiling = rows["ceiling"].label.split(", in its")[0]
        row = replace(row, label=f"the {ceiling}")
    begin = "The present setting stays" if chosen == "default" else f"The default is to be {row.label}"
    cost = "" if chosen == "default" else f", in {share:.2f} of the present CPU time"
    return (
        f"{begin}: it is the cheapest whose top-3 regret is at most {MOST_REGRET:g} point in all of its interval "
        f"({row.regrets[1].format('.1f')}; τ {row.tau.value:.2f} of {rows['ceiling'].tau.value:.2f}){cost}."
    )


def describe_caches(recorded: Recorded) -> str:
    """Returns what rounding the kept features does to accuracies and to their order, or why it does nothing."""
    names = [name for name in recorded.about["proxies"] if name not in CANDIDATES]
    if not names:
        return (
            "The features of an int8 backbone are kept exactly in a byte each, so `--feature-cache-type` is no choice."
        )
    exact, parts = recorded.validation("default"), []
    for name in names:
        rounded = recorded.validation(name)
        away = np.abs(rounded - exact)
        tau = float(kendall_tau(exact, rounded)[0])
        parts.append(
            f"{name} by {away.mean():.2f} points on average, {away.max():.2f} at most, τ between both {tau:.2f}"
        )
    return (
        f"Against features kept as fp32, from the same seed, validation accuracy changes with {'; with '.join(parts)}."
    )


def _describe_sample(recorded: Recorded) -> str:
    """Returns what was trained on what, and what it was measured on."""
    about, memory, long = recorded.about, recorded.memory / 1024, recorded.long
    *_, tests = about["images"][about["proxies"]["default"]["images"]]
    views = about["training"]["views"]
    return (
        f"Weights {about['weights']['name']} (sha256 `{about['weights']['sha256'][:16]}…`), images "
        f"{about['data']['name']} (sha256 of those that train and validate `{about['data']['sha256'][:16]}…`). "
        f"{len(recorded.lines)} designs of the default space that fit {about['budget_bytes'] // 1024} KiB, as many "
        f"from each stratum of memory ({memory.min():.0f} to {memory.max():.0f} KiB), {views} view"
        f"{'s' if views > 1 else ''} per image. The long training is measured on {tests} test images, from two seeds: "
        f"{long.min():.1f} to {long.max():.1f} %. A proxy is measured on the validation images, as a search sees it, "
        f"from another seed. Written by `python -m studies.proxy_rank {about['task']}`."
    )


def summarise(about: Line, lines: Sequence[Line]) -> str:
    """Returns the record as Markdown."""
    recorded = Recorded(about, lines)
    rows = find_rows(recorded)
    text = [
        f"# Whether short trainings rank as long ones do: {about['task']}",
        "",
        _describe_sample(recorded),
        "",
        "| ranked by | CPU s per design | Kendall's τ | regret of the top 1, points | of the top 3 |",
        "|---|--:|--:|--:|--:|",
        *(row.to_markdown() for row in rows.values()),
        "",
        "In brackets 95 % intervals over resampled designs. τ is with each seed of the long training, their mean; the "
        "first row is the ceiling. Regret is the best mean of both seeds less that of the best of the top k; in the "
        "first two rows it is in the other seed alone, whose best is partly luck. The frozen features are at hand: "
        "all designs share them.",
        "",
        f"**{describe_choice(rows, designs=len(lines))}**",
        "",
        describe_caches(recorded),
    ]
    return "\n".join(text) + "\n"
