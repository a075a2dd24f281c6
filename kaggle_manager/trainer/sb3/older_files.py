"""What stock Stable-Baselines3 knows of model files that older versions of it saved: the repairs of its `load()`.

Source: `BaseAlgorithm.load` and `load_from_zip_file` of 2.9.2; pull requests 1963 and 1978, issue 1233 of
DLR-RM/stable-baselines3. Spaces of gym and files named otherwise are `pickles`' business.
"""

from __future__ import annotations

from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm

_EXTRACTORS = ("pi_features_extractor.", "vf_features_extractor.")


def repair(model: BaseAlgorithm, parameters: dict[str, Any]) -> None:
    """Change state dictionaries of an older file into those that `model` of today has, where that is known.

    Args:
        model: what they are for.
        parameters: by name, as in the file; changed in place.
    """
    today = model.get_parameters()
    _without_target_network(parameters.get("policy.optimizer"), today.get("policy.optimizer"))
    _with_each_extractor(parameters.get("policy"), today.get("policy"))


def _without_target_network(saved: Any, today: Any) -> None:
    """DQN before 2.4 had the parameters of the target network in its optimizer, which never moved them."""
    if saved and today and len(saved["param_groups"]) == len(today["param_groups"]) == 1:
        theirs, ours = saved["param_groups"][0]["params"], today["param_groups"][0]["params"]
        if len(theirs) == 2 * len(ours):
            saved["param_groups"][0]["params"] = theirs[: len(ours)]


def _with_each_extractor(saved: Any, today: Any) -> None:
    """A2C and PPO before 1.7 named their only feature extractor once; today each user of it names it too."""
    for name in today if saved and today else ():
        for prefix in _EXTRACTORS:
            alone = f"features_extractor.{name.removeprefix(prefix)}"
            if name.startswith(prefix) and name not in saved and alone in saved:
                saved[name] = saved[alone]
