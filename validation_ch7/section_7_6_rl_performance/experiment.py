"""Whether a trained model is of the experiment that section.toml declares: decided by content, never by a name.

Pure: two identities in, the differences in words out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kaggle_manager.checkpoints import compare
from kaggle_manager.checkpoints.sources import Sources

# Judged apart: the report says in so many words when the declaration was changed after the training.
_JUDGEMENT = "study_fingerprint"


def differences(
    stated: Mapping[str, Any], declared: Mapping[str, Any], *, then: Sources | None = None, now: Sources | None = None
) -> list[str]:
    """What makes the training whose manifest states `stated` another one than `declared`; empty when it is the same.

    Args:
        stated: `Manifest.identity`; what only the trainer could measure (library versions, spaces) is not compared.
        declared: `identity_of` the scenario under one training seed.
        then, now: the sources of both, by which a changed file is named.
    """
    known = {name: stated.get(name) for name in declared if name != _JUDGEMENT}
    wanted = {name: value for name, value in declared.items() if name != _JUDGEMENT}
    found = compare(known, wanted, then=then, now=now).differences
    return [
        f"{each.label}: {each.said}"
        if each.field.endswith("_fingerprint")
        else f"{each.label}: trained with {each.checkpoint}, declared {each.current}"
        for each in found
    ]
