"""The tables as CSV. Every row names its provenance; the unit of each is the episode."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from validation_ch7.section_7_6_rl_performance.report.tables import csv_of
from validation_ch7.section_7_6_rl_performance.second_study.judging.comparison import Summary
from validation_ch7.section_7_6_rl_performance.second_study.judging.crossed_bootstrap import Estimate
from validation_ch7.section_7_6_rl_performance.second_study.report.around import Saving, Tried
from validation_ch7.section_7_6_rl_performance.second_study.report.results import SiteResult

Row = dict[str, Any]
DIGITS = 4
"""Decimals of a number: fewer than those in which two machines may differ."""


def summary(results: Sequence[SiteResult], provenance_id: str) -> bytes:
    """One row for each controller at each site under each condition."""
    return csv_of(_summary_rows(results), provenance_id)


def _summary_rows(results: Sequence[SiteResult]) -> Iterator[Row]:
    for result in results:
        confidence = result.declaration.judgement.confidence
        for condition, summaries in result.conditions.items():
            for each in summaries.values():
                yield {"site": result.site.name, "condition": condition, **_of_summary(each, confidence)}


def _of_summary(each: Summary, confidence: float) -> Row:
    low, high = each.gridlock_interval
    return {
        "controller": each.controller,
        "trainings": each.trainings,
        "episodes": each.episodes,
        **_columns("delay_s", each.delay, confidence),
        **_columns("delay_of_all_s", each.delay_of_all, confidence),
        "median_s": _number(each.median),
        "inside_s": _number(each.inside),
        "outside_s": _number(each.outside),
        "p95_s": _number(each.p95),
        "worst_s": _number(each.worst),
        "gridlocked": each.gridlocked,
        "gridlock_low": _number(low),
        "gridlock_high": _number(high),
        "trainings_gridlocked": each.trainings_gridlocked,
        "first_onset_s": _number(each.onsets_s[0]) if each.onsets_s else None,
        "demand": _number(each.demand),
        "stops": _number(each.stops),
        "switches_h": _number(each.switches_h),
        "longest_red_s": _number(each.longest_red_s),
    }


def comparisons(results: Sequence[SiteResult], provenance_id: str) -> bytes:
    """One row for each baseline at each site: both endpoints, the verdict, effect sizes."""
    return csv_of(
        (
            {
                "site": result.site.name,
                "baseline": each.other,
                **_columns("difference_s", each.delay, result.declaration.judgement.confidence),
                "relative": _number(each.relative),
                "verdict": each.verdict,
                "p_better_holm": _number(each.p_better),
                **_columns("difference_of_all_s", each.delay_of_all, result.declaration.judgement.confidence),
                "verdict_of_all": each.verdict_of_all,
                **_columns("paired_by_training_s", each.by_training, result.declaration.judgement.confidence),
                "verdict_by_training": each.verdict_by_training,
                "gridlock_difference": _number(each.gridlock),
                "gridlock_difference_low": _number(each.gridlock_interval[0]),
                "gridlock_difference_high": _number(each.gridlock_interval[1]),
                "wins": int(each.wins),
                "cliffs_delta": _number(each.cliffs_delta),
                **_columns("probability_of_improvement", each.improvement, result.declaration.judgement.confidence),
            }
            for result in results
            for each in result.comparisons
        ),
        provenance_id,
    )


def trainings(results: Sequence[SiteResult], provenance_id: str) -> bytes:
    """One row for each kept training: what it was, what it cost, and how its model did."""
    return csv_of(_training_rows(results), provenance_id)


def _training_rows(results: Sequence[SiteResult]) -> Iterator[Row]:
    for result in results:
        for agent, kept in result.trainings.items():
            for training in kept:
                episodes = result.episodes.get(agent, {}).get(training["seed"], ())
                delays = [episode.mean_delay_s for episode in episodes if episode.gridlock_onset_s is None]
                yield {
                    "site": result.site.name,
                    "agent": agent,
                    "seed": training["seed"],
                    "run_id": training["run_id"],
                    "sessions": training["generations"],
                    "steps": training["step"],
                    "code_sha256": training["code_sha256"],
                    "declaration": training["declaration"],
                    "exact": training["exact"],
                    "training_seconds": training["training_seconds"],
                    "evaluation_seconds": training["evaluation_seconds"],
                    "episodes": len(episodes),
                    "delay_s": _number(math.fsum(delays) / len(delays)) if delays else None,
                    "gridlocked": sum(episode.gridlock_onset_s is not None for episode in episodes),
                }


def plain(rows: Sequence[Saving | Tried], provenance_id: str) -> bytes:
    """One row for each, with its attributes as columns."""
    return csv_of(({name: _cell(value) for name, value in asdict(row).items()} for row in rows), provenance_id)


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return _number(value)
    return value if isinstance(value, int | str) else json.dumps(value)


def _columns(name: str, estimate: Estimate, confidence: float) -> Row:
    low, high = estimate.interval(confidence) or (None, None)
    return {name: _number(estimate.value), f"{name}_low": _number(low), f"{name}_high": _number(high)}


def _number(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else round(value, DIGITS)
