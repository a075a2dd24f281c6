"""The LaTeX of the section, in both languages. Sentences are chosen in the templates by what the numbers are.

`section_7_6.<language>.tex` is the body, to be included; `document.<language>.tex` around it compiles as it is with
pdflatex. Needs babel, amsmath, graphicx, array, booktabs and hyperref.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jinja2

from validation_ch7.section_7_6_rl_performance.report import latex as shared
from validation_ch7.section_7_6_rl_performance.report.wording import Language
from validation_ch7.section_7_6_rl_performance.second_study.judging.comparison import Comparison, allowed_gridlocks
from validation_ch7.section_7_6_rl_performance.second_study.judging.crossed_bootstrap import Estimate
from validation_ch7.section_7_6_rl_performance.second_study.judging.verdicts import VERDICTS
from validation_ch7.section_7_6_rl_performance.second_study.report.around import Around, Tried
from validation_ch7.section_7_6_rl_performance.second_study.report.figures import FIGURES
from validation_ch7.section_7_6_rl_performance.second_study.report.results import MAIN, SiteResult
from validation_ch7.section_7_6_rl_performance.second_study.report.wording import is_a_word, word


def section(results: Sequence[SiteResult], around: Around, language: Language, provenance: Mapping[str, Any]) -> str:
    """The body of the section."""
    declared = results[0].declaration
    return (
        _environment(language, declared.judgement.confidence)
        .get_template(f"section.{language}.tex.j2")
        .render(results=results, around=around, figures=list(FIGURES), main=MAIN, provenance=provenance,
                language=language, declaration=declared, judgement=declared.judgement,
                allowed_gridlocks=allowed_gridlocks(declared.judgement, declared.traffic.held_out.count))
    )  # fmt: skip


def document(results: Sequence[SiteResult], language: Language) -> str:
    """A document that holds nothing but the section, numbered 7.6."""
    confidence = results[0].declaration.judgement.confidence
    return _environment(language, confidence).get_template("document.tex.j2").render(language=language)


def _environment(language: Language, confidence: float) -> jinja2.Environment:
    made = shared.environment(language, __package__ or "")
    number = made.filters["number"]

    def interval(value: Estimate | tuple[float, float] | None, digits: int = 1, scale: float = 1.0) -> str:
        found = value.interval(confidence) if isinstance(value, Estimate) else value
        if found is None:
            return "--"
        between = "\\,; " if language == "fr" else ", "
        return f"\\mbox{{[{number(scale * found[0], digits)}{between}{number(scale * found[1], digits)}]}}"

    def value_of(setting: Any) -> str:
        """A hyperparameter: a schedule as its ends, a table by its keys, a list as JSON, a number as it is."""
        if isinstance(setting, Mapping) and "linear" in setting:
            first, last = setting["linear"]
            return f"{number_text(first)} $\\to$ {number_text(last)}"
        if isinstance(setting, Mapping):
            return ", ".join(f"{name.translate(shared.SPECIAL)} {value_of(each)}" for name, each in setting.items())
        if isinstance(setting, bool | int | float):
            return number_text(setting)
        return json.dumps(setting).translate(shared.SPECIAL)

    def number_text(setting: float) -> str:
        text = f"{setting:,}" if isinstance(setting, int) else f"{setting:g}"
        return text.replace(",", r"\,") if isinstance(setting, int) else "$" + _decimal(text, language) + "$"

    def p_value(p: float) -> str:
        return "$< " + _decimal("0.001", language) + "$" if p < 0.001 else number(p, 3)

    def changes(tried: Tried) -> str:
        """What a variant has otherwise than the declared training."""
        named = {
            name: value.split(":")[-1] if isinstance(value, str) else value for name, value in tried.otherwise.items()
        }
        said = [f"\\texttt{{{name.translate(shared.SPECIAL)}}} {value_of(named[name])}" for name in named]
        if is_a_word(remark := f"tried_{tried.name}"):  # what no setting says
            said.append(word(remark, language))
        return ", ".join(said) or "--"

    def all_of(keys: Sequence[str]) -> str:
        return listed([word(f"the_{key}", language).translate(shared.SPECIAL) for key in keys])

    def listed(texts: Sequence[str]) -> str:
        *others, last = texts
        return f"{', '.join(others)} {'et' if language == 'fr' else 'and'} {last}" if others else last

    def killed(kills: Mapping[str, int]) -> str:
        def often(count: int) -> str:
            return word("once", language) if count == 1 else word("times", language).format(count)

        of = ("trainer", "machine", "manager")
        return listed([f"{word(f'killed_{what}', language)} {often(kills[what])}" for what in of if what in kills])

    def by_verdict(comparisons: Sequence[Comparison]) -> list[tuple[str, list[str]]]:
        of = {verdict: [each.other for each in comparisons if each.verdict == verdict] for verdict in VERDICTS}
        return [(verdict, others) for verdict, others in of.items() if others]

    filters: dict[str, Callable[..., Any]] = {
        "all_of": all_of,
        "by_verdict": by_verdict,
        "killed": killed,
        "word": lambda key: word(key, language).translate(shared.SPECIAL),
        "the": lambda key: word(f"the_{key}", language).translate(shared.SPECIAL),
        "interval": interval,
        "value": value_of,
        "changes": changes,
        "p": p_value,
        "number": lambda value, digits=1: "--" if value is None or math.isnan(value) else number(value, digits),
    }
    made.filters |= filters
    return made


def _decimal(text: str, language: Language) -> str:
    return text.replace(".", "{,}") if language == "fr" else text
