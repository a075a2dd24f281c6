"""Verdicts: what may be said of a difference, after Holm's correction over the comparisons that were declared together.

A difference is ours minus theirs, and lower is better. From the strongest claim to none:

| verdict | what is established |
|---|---|
| `better`, `worse` | lower (higher) by more than the margin |
| `lower`, `higher` | lower (higher), though not by more than the margin |
| `equivalent` | a difference smaller than the margin |
| `not established` | none of these |

Of one comparison alone, a verdict is what the two-sided interval says: `better` where it lies wholly below the margin,
`lower` where it lies wholly below 0, `equivalent` where it lies between the margins. With several, the p-values of each
claim are corrected together (S. Holm, "A simple sequentially rejective multiple test procedure", 1979).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from validation_ch7.section_7_6_rl_performance.second_study.judging.crossed_bootstrap import Estimate

Verdict = Literal["better", "lower", "equivalent", "not established", "higher", "worse"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)

_CLAIMS: dict[Verdict, Callable[[Estimate, float], float]] = {
    "better": lambda gap, margin: gap.p_below(-margin),
    "worse": lambda gap, margin: gap.p_above(margin),
    "lower": lambda gap, margin: gap.p_below(0.0),
    "higher": lambda gap, margin: gap.p_above(0.0),
    "equivalent": lambda gap, margin: max(gap.p_below(margin), gap.p_above(-margin)),
}
"""Verdict -> p-value of its contrary, in the order in which they are given."""


@dataclass(frozen=True)
class Judged:
    """A verdict, and the corrected p-value of "better" whatever the verdict is."""

    verdict: Verdict
    p_better: float


def judge(differences: Mapping[str, Estimate], margin: float, confidence: float) -> dict[str, Judged]:
    """The verdict of each of the comparisons that were declared together."""
    corrected = {
        verdict: dict(zip(differences, holm([claim(gap, margin) for gap in differences.values()]), strict=True))
        for verdict, claim in _CLAIMS.items()
    }
    return {
        name: Judged(
            next((verdict for verdict, p in corrected.items() if p[name] <= 1 - confidence), "not established"),
            corrected["better"][name],
        )
        for name in differences
    }


def holm(p_values: Sequence[float]) -> list[float]:
    """The corrected p-values, in the given order."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, position in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[position]))
        corrected[position] = largest
    return corrected
