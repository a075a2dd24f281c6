"""The words of figures and tables that are not sentences, in the two languages of the report."""

from __future__ import annotations

from typing import Literal

Language = Literal["fr", "en"]

_WORDS: dict[str, tuple[str, str]] = {
    # key: (French, English)
    "fixed_time": ("temps fixe", "fixed time"),
    "webster": ("Webster", "Webster"),
    "actuated": ("adaptatif (SUMO)", "actuated (SUMO)"),
    "delay_based": ("retards (SUMO)", "delay-based (SUMO)"),
    "greedy_queue": ("file gloutonne", "greedy queue"),
    "max_pressure": ("pression maximale", "max pressure"),
    "random": ("aléatoire", "random"),
    "best": ("DQN, meilleur", "DQN, best"),
    "final": ("DQN, final", "DQN, final"),
    "the_fixed_time": ("le plan à temps fixe", "the fixed-time plan"),
    "the_webster": ("le plan de Webster", "Webster's plan"),
    "the_actuated": ("la commande adaptative de SUMO", "SUMO's actuated control"),
    "the_delay_based": ("la commande par retards de SUMO", "SUMO's delay-based control"),
    "the_greedy_queue": ("la file gloutonne", "the greedy queue"),
    "the_max_pressure": ("la pression maximale", "max pressure"),
    "the_random": ("le choix aléatoire", "random choice"),
    "dqn": ("DQN", "DQN"),
    "latest": ("dernier", "latest"),
    "steps": ("pas d'entraînement", "training steps"),
    "return": ("retour d'un épisode", "return of an episode"),
    "episode": ("épisode d'entraînement", "training episode"),
    "evaluation": ("évaluation, moyenne interquartile et intervalle", "evaluation, interquartile mean and interval"),
    "session": ("nouvelle session", "new session"),
    "delay": ("retard moyen (s par trajet)", "mean delay (s per trip)"),
    "waiting": ("attente moyenne (s par trajet)", "mean waiting (s per trip)"),
    "queue": ("véhicules à l'arrêt", "halting vehicles"),
    "mean_queue": ("file moyenne (véhicules)", "mean queue (vehicles)"),
    "minutes": ("temps depuis le début (min)", "time since the start (min)"),
    "due_minutes": ("heure d'entrée prévue (min)", "time of planned entry (min)"),
    "phase": ("phase", "phase"),
    "shipped_s": ("{} s dans le plan fourni", "{} s in the shipped plan"),
    "checkpoint": ("points de sauvegarde", "checkpoints"),
    "seed": ("graine", "seed"),
    "score": ("score d'évaluation", "evaluation score"),
}


def word(key: str, language: Language) -> str:
    """The word for `key`."""
    return _WORDS[key][("fr", "en").index(language)]
