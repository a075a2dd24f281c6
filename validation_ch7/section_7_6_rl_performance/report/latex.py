"""The LaTeX of the section. Sentences are chosen in the templates by what the numbers turned out to be.

`section_7_6.tex` is the body, to be included; `document.tex` around it compiles as it is with pdflatex. Needs babel,
graphicx and booktabs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jinja2

from kaggle_manager.protocol.sentences import exactness
from validation_ch7.section_7_6_rl_performance.report.figures import FIGURES
from validation_ch7.section_7_6_rl_performance.report.provenance import is_exact
from validation_ch7.section_7_6_rl_performance.report.results import REPORTED, Result
from validation_ch7.section_7_6_rl_performance.report.wording import Language, word
from validation_ch7.section_7_6_rl_performance.training_run import EVALUATION_SHARE

SPECIAL = str.maketrans(
    {**{sign: rf"\{sign}" for sign in "&%$#{}"}, "_": r"\_\allowbreak{}", "~": r"\textasciitilde{}",
     "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"}
)  # fmt: skip


def section(results: Sequence[Result], language: Language, provenance_id: str) -> str:
    """The body of the section."""
    return (
        environment(language)
        .get_template(f"section.{language}.tex.j2")
        .render(results=results, figures=list(FIGURES), reported=REPORTED, provenance=provenance_id)
    )


def document(results: Sequence[Result], language: Language) -> str:
    """A document that holds nothing but the section."""
    return environment(language).get_template("document.tex.j2").render(language=language)


def environment(language: Language, package: str = __package__ or "") -> jinja2.Environment:
    """What renders the templates of `package`: delimiters that LaTeX leaves free, numbers as the language has them."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader(package, "templates"),
        block_start_string="<%",
        block_end_string="%>",
        variable_start_string="<<",
        variable_end_string=">>",
        comment_start_string="<#",
        comment_end_string="#>",
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # LaTeX, not HTML; text from data goes through `tex`
        keep_trailing_newline=True,
    )

    def number(value: float | None, digits: int = 1) -> str:
        if value is None:
            return "--"
        text = f"{value:,.{digits}f}"
        if not any(digit in text for digit in "123456789"):
            text = text.removeprefix("-")
        return "$" + text.replace(",", r"\,").replace(".", "{,}" if language == "fr" else ".") + "$"

    def interval(estimate: Any, digits: int = 1) -> str:
        if estimate.low is None:
            return "--"
        return f"[{number(estimate.low, digits)}\\,; {number(estimate.high, digits)}]"

    def percent(share: float, digits: int = 0) -> str:
        return number(100 * share, digits) + r"\,\%"

    made.filters |= {
        "tex": lambda value: str(value).translate(SPECIAL),
        "word": lambda key: word(key, language).translate(SPECIAL),
        "the": lambda key: word(f"the_{key}", language).translate(SPECIAL),
        "number": number,
        "interval": interval,
        "percent": percent,
        "exactness": exactness,
        "short": lambda text: str(text)[:8],
    }
    made.globals |= {"is_exact": is_exact, "evaluation_aim": EVALUATION_SHARE, "zip": zip}
    return made
