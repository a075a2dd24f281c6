"""Names of the keyword arguments of Stable-Baselines3's algorithms, for a machine where it is not installed.

Those of the version this program was tested with; a test compares them with its signatures.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from kaggle_manager.sections.values import SCHEDULED, Refused, points_of

_ALL = frozenset({"learning_rate", "gamma", "policy_kwargs", "stats_window_size", "tensorboard_log", "verbose"})
_ON_POLICY = _ALL | {
    *("n_steps", "gae_lambda", "ent_coef", "vf_coef", "max_grad_norm", "normalize_advantage", "use_sde"),
    *("sde_sample_freq", "rollout_buffer_class", "rollout_buffer_kwargs"),
}
_OFF_POLICY = _ALL | {
    *("batch_size", "buffer_size", "gradient_steps", "learning_starts", "n_steps", "optimize_memory_usage"),
    *("replay_buffer_class", "replay_buffer_kwargs", "tau", "train_freq"),
}
_PPO = _ON_POLICY | {"batch_size", "clip_range", "clip_range_vf", "n_epochs", "target_kl"}
_DQN = _OFF_POLICY | {
    *("exploration_final_eps", "exploration_fraction", "exploration_initial_eps", "max_grad_norm"),
    "target_update_interval",
}
_SAC = _OFF_POLICY | {
    *("action_noise", "ent_coef", "sde_sample_freq", "target_entropy", "target_update_interval", "use_sde"),
    "use_sde_at_warmup",
}
_TD3 = _OFF_POLICY | {"action_noise", "policy_delay", "target_noise_clip", "target_policy_noise"}
NAMES: dict[str, frozenset[str]] = {
    "A2C": _ON_POLICY | {"rms_prop_eps", "use_rms_prop"},
    "DDPG": _OFF_POLICY - {"stats_window_size"} | {"action_noise"},
    "DQN": _DQN,
    "PPO": _PPO,
    "SAC": _SAC,
    "TD3": _TD3,
}
SB3 = tuple(NAMES)
"""The algorithms of stable-baselines3."""
NAMES |= {
    "ARS": _ALL - {"gamma"} | {"alive_bonus_offset", "delta_std", "n_delta", "n_eval_episodes", "n_top", "zero_policy"},
    "CrossQ": _SAC - {"tau", "target_update_interval"} | {"policy_delay"},
    "MaskablePPO": _PPO - {"sde_sample_freq", "use_sde"},
    "QRDQN": _DQN,
    "RecurrentPPO": _PPO - {"rollout_buffer_class", "rollout_buffer_kwargs"},
    "TQC": _SAC | {"top_quantiles_to_drop_per_net"},
    "TRPO": _ON_POLICY - {"ent_coef", "max_grad_norm", "vf_coef"}
    | {"batch_size", "cg_damping", "cg_max_steps", "line_search_max_iter", "line_search_shrinking_factor"}
    | {"n_critic_updates", "sub_sampling_factor", "target_kl"},
}
SB3_CONTRIB = tuple(name for name in NAMES if name not in SB3)
"""The algorithms of sb3-contrib, a package of its own."""
N_STEPS = {"A2C": 5, "PPO": 2048, "MaskablePPO": 2048, "RecurrentPPO": 128, "TRPO": 2048}
"""Those that learn from rollouts of `n_steps` steps of each environment, and how many these are by default."""
_POLICIES = {
    "ARS": ("LinearPolicy", "MlpPolicy"),
    "CrossQ": ("MlpPolicy",),
    "RecurrentPPO": ("CnnLstmPolicy", "MlpLstmPolicy", "MultiInputLstmPolicy"),
}
POLICIES = {name: _POLICIES.get(name, ("CnnPolicy", "MlpPolicy", "MultiInputPolicy")) for name in NAMES}
"""The policies that each of them has by name."""
LIKE = 0.8
"""So alike a name has to be to one that is meant: `n_epochs` is no slip of `n_steps`."""
_OWN = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def is_algorithm(text: str) -> str:
    """`text`, when it names an algorithm; one that has a name of its own here by that, also where it is `module:Class`.

    Raises:
        ValueError: it does not; with what is accepted.
    """
    module, _, name = text.rpartition(":")
    package = "stable_baselines3" if name in SB3 else "sb3_contrib"
    if name in NAMES and module in (package, f"{package}.{name.lower()}", f"{package}.{name.lower()}.{name.lower()}"):
        return name
    if text in NAMES or _OWN.fullmatch(text):
        return text
    raise ValueError(f"{', '.join(NAMES)}, or a class of your own as module:Class")


def check_schedules(algorithm: str, hyperparameters: Mapping[str, Any]) -> None:
    """Refuse a schedule where none is taken; a class of one's own is asked later.

    Raises:
        Refused: of its key.
    """
    for name, value in hyperparameters.items():
        if algorithm in NAMES and name not in SCHEDULED and points_of(value) is not None:
            accepted = f"a value that stays; a schedule is for {', '.join(SCHEDULED)}"
            raise Refused(f"hyperparameters.{name}", value, accepted)


def unknown(algorithm: str, names: Collection[str]) -> list[str]:
    """In words, each of `names` that the algorithm does not have; nothing for a user's class."""
    return [
        f"hyperparameters.{name}: {algorithm} has none of that name{meant(name, NAMES[algorithm])}"
        for name in names
        if name not in NAMES.get(algorithm, names)
    ]


def unknown_policy(algorithm: str, policy: str) -> list[str]:
    """In words, a name that is none of the algorithm's policies; nothing for a user's class."""
    known = POLICIES.get(algorithm, (policy,))
    close = like(policy, known)
    hint = f"; did you mean {close}?" if close else ""
    accepted = f"{', '.join(known)}, or a class as module:Class"
    return [] if policy in known or ":" in policy else [f"policy: given {policy!r}; accepted: {accepted}{hint}"]


def meant(name: str, accepted: Iterable[str]) -> str:
    """What a name with a slip was probably meant to be, else what is accepted."""
    known = sorted(accepted)
    close = like(name, known)
    return f"; did you mean {close}?" if close else f"; it has {', '.join(known) or 'no argument'}"


def like(name: str, known: Iterable[str]) -> str:
    """The one of `known` that a name with a slip, or in other capitals, is most like; '' for none."""
    written = {each.casefold(): each for each in sorted(known)}
    close = difflib.get_close_matches(name.casefold(), written, n=1, cutoff=LIKE)
    return written[close[0]] if close else ""
