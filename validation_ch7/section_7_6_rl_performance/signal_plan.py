"""A plan that SUMO carries out by itself, instead of an agent: as shipped, fixed by us, actuated, or delay-based.

Promises: every plan but the shipped one shows the same green phases as the agent may choose from, in the same order,
with the same yellow before a conflicting green and the same minimum green. Knows nothing of traffic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from xml.sax.saxutils import quoteattr

from validation_ch7.section_7_6_rl_performance.intersection import Intersection

PROGRAM_ID = "own"


@dataclass(frozen=True)
class SignalPlan:
    """Who shows the greens.

    Attributes:
        kind: `shipped` is the plan in the network file; the others are SUMO's types of traffic-light logic.
        greens_s: seconds of each green phase; where `kind` adapts them, they only set the plan's cycle.
        longest_green_s: most seconds an adaptive plan shows one green.
        parameters: SUMO's parameters of the logic, (key, value).
    """

    kind: Literal["shipped", "static", "actuated", "delay_based"] = "shipped"
    greens_s: tuple[float, ...] = ()
    longest_green_s: int = 50
    parameters: tuple[tuple[str, str], ...] = ()

    def program(self, site: Intersection, *, yellow_s: int, min_green_s: int) -> str | None:
        """The plan as a SUMO additional file; None when the network file holds it already."""
        if self.kind == "shipped":
            return None
        adaptive = self.kind != "static"
        limits = f' minDur="{min_green_s}" maxDur="{self.longest_green_s}"' if adaptive else ""
        lines = [
            "<additional>",
            f'<tlLogic id={quoteattr(site.signal_id)} type="{self.kind}" programID="{PROGRAM_ID}" offset="0">',
            *(f"<param key={quoteattr(key)} value={quoteattr(value)}/>" for key, value in self.parameters),
        ]
        for phase, green_s in enumerate(self.greens_s):
            following = (phase + 1) % len(self.greens_s)
            lines.append(f'<phase duration="{green_s:g}" state="{site.greens[phase]}"{limits}/>')
            yellow = site.yellow(phase, following)
            if yellow and yellow_s:
                lines.append(f'<phase duration="{yellow_s}" state="{yellow}"/>')
        return "\n".join([*lines, "</tlLogic>", "</additional>"])
