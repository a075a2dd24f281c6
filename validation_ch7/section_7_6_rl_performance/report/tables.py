"""The tables as CSV: every held-out episode, and what was made of them. Each row names its provenance."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from validation_ch7.section_7_6_rl_performance.comparison import Estimate
from validation_ch7.section_7_6_rl_performance.report.results import Result

Row = dict[str, Any]


def episodes(results: Sequence[Result], provenance_id: str) -> bytes:
    """One row for each (controller, training seed, held-out episode)."""
    return csv_of(_episode_rows(results), provenance_id)


def summary(results: Sequence[Result], provenance_id: str) -> bytes:
    """One row for each controller: mean, interquartile mean, intervals, median, gridlocked episodes."""
    return csv_of(
        (
            {
                "scenario": result.scenario,
                "controller": each.controller,
                "trainings": each.trainings,
                "episodes": each.episodes,
                "unit": "training" if result.by_training else "episode",
                **_columns("mean_delay_s", each.mean),
                **_columns("iqm_delay_s", each.iqm),
                "median_delay_s": each.median,
                "gridlocked": each.gridlocked,
                "unfinished": each.unfinished,
                "never_inserted": each.never_inserted,
            }
            for result in results
            for each in result.summaries.values()
        ),
        provenance_id,
    )


def comparisons(results: Sequence[Result], provenance_id: str) -> bytes:
    """One row for each baseline: the reported model's difference, effect size, probability and verdict."""
    return csv_of(
        (
            {
                "scenario": result.scenario,
                "baseline": each.baseline,
                **_columns("difference_s", each.difference),
                "relative": each.relative,
                "effect_size": each.effect_size,
                **_columns("probability_of_improvement", each.probability),
                "verdict": each.verdict,
            }
            for result in results
            for each in result.comparisons
        ),
        provenance_id,
    )


def _episode_rows(results: Sequence[Result]) -> Iterator[Row]:
    for result in results:
        for controller, trainings in result.episodes.items():
            learnt = controller in ("best", "final")
            runs = [run for run in result.runs if controller in run.levels] if learnt else [None]
            for run, found in zip(runs, trainings, strict=True):
                for episode in found:
                    yield {
                        "scenario": result.scenario,
                        "controller": controller,
                        "training_seed": run.seed if run else None,
                        "run_id": run.head.lineage.run_id if run else None,
                        "step": run.levels[controller].step if run else None,
                        "episode_seed": episode.seed,
                        **asdict(episode.metrics),
                        "gridlocked": int(episode.completed_share < result.protocol.gridlock_completed_below),
                        "simulator_digest": episode.digest,
                    }


def _columns(name: str, estimate: Estimate) -> Row:
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def csv_of(rows: Iterator[Row], provenance_id: str) -> bytes:
    """Rows of equal columns as CSV, each with the provenance last."""
    stream = io.StringIO()
    writer: csv.DictWriter[str] | None = None
    for row in rows:
        full = {**row, "provenance": provenance_id}
        if writer is None:
            writer = csv.DictWriter(stream, list(full), lineterminator="\n")
            writer.writeheader()
        writer.writerow(full)
    return stream.getvalue().encode()
