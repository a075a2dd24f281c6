"""The words of figures and tables that are not sentences, in the two languages of the report."""

from __future__ import annotations

from validation_ch7.section_7_6_rl_performance.report.wording import Language

LANGUAGES: tuple[Language, ...] = ("fr", "en")

_WORDS: dict[str, tuple[str, str]] = {
    # key: (French, English)
    "fixed_time": ("temps fixe, plan fourni", "fixed time, shipped plan"),
    "fixed_time_tuned": ("temps fixe, réglé", "fixed time, tuned"),
    "actuated": ("micro-régulation", "actuated"),
    "sotl": ("SOTL", "SOTL"),
    "longest_queue": ("file la plus longue", "longest queue"),
    "greedy_queue": ("MAXWAVE", "MAXWAVE"),
    "max_pressure": ("pression maximale", "max pressure"),
    "advanced_max_pressure": ("Advanced-MP", "Advanced-MP"),
    "random": ("choix aléatoire", "random choice"),
    "main": ("PPO", "PPO"),
    "second": ("Double DQN", "Double DQN"),
    "the_fixed_time": ("le plan à temps fixe fourni", "the shipped fixed-time plan"),
    "the_fixed_time_tuned": ("le plan à temps fixe réglé par simulation", "the fixed-time plan tuned by simulation"),
    "the_actuated": ("la micro-régulation par détecteurs", "actuated control"),
    "the_sotl": ("SOTL", "SOTL"),
    "the_longest_queue": ("la règle de la file la plus longue", "the longest-queue rule"),
    "the_greedy_queue": ("la règle gloutonne (MAXWAVE)", "the greedy rule (MAXWAVE)"),
    "the_max_pressure": ("la pression maximale", "max pressure"),
    "the_advanced_max_pressure": ("Advanced-MP", "Advanced-MP"),
    "the_random": ("le choix aléatoire", "random choice"),
    "dqn": ("DQN", "DQN"),
    "none": ("aucune", "nothing"),
    "latest": ("dernier modèle (SB3)", "latest model (SB3)"),
    "latest_buffer": ("et mémoire de rejeu (SB3)", "and replay buffer (SB3)"),
    "exact": ("exacte (ce programme)", "exact (this program)"),
    "whole": ("exacte, sans arrêt", "exact, never killed"),
    "tried_without_dueling": (
        "réseau sans tête pour la valeur de l'état",
        "a network without a head for the state's value",
    ),
    "ablated_main": ("rien", "nothing"),
    "ablated_first_reward": ("la récompense, pour celle de la première étude", "the reward, for the first study's"),
    "ablated_first_state": ("l'état, sauf densités et files", "the state but for densities and queues"),
    "ablated_no_waits": ("les attentes", "the waits"),
    "ablated_no_box": ("l'intérieur du carrefour", "the inside of the junction"),
    "ablated_no_clearance": ("le rouge de dégagement", "the clearance"),
    "as trained": ("entraînement", "as trained"),
    "demand x0.8": ("demande × 0,8", "demand × 0.8"),
    "demand x1.2": ("demande × 1,2", "demand × 1.2"),
    "demand x1.5": ("demande × 1,5", "demand × 1.5"),
    "shifted departures": ("départs décalés", "shifted departures"),
    "sensor noise": ("capteurs bruités", "sensor noise"),
    "dead detector": ("un capteur muet", "one dead detector"),
    "better": ("meilleur", "better"),
    "lower": ("plus bas", "lower"),
    "equivalent": ("équivalent", "equivalent"),
    "not established": ("non établi", "not established"),
    "higher": ("plus haut", "higher"),
    "worse": ("moins bon", "worse"),
    "is_better": ("meilleur", "better"),
    "is_lower": ("plus bas, sans dépassement établi de la marge", "lower, without the margin being established"),
    "is_equivalent": ("équivalent", "equivalent"),
    "is_not established": ("sans différence établie", "not established to be different"),
    "is_higher": ("plus haut, sans dépassement établi de la marge", "higher, without the margin being established"),
    "is_worse": ("moins bon", "worse"),
    "killed_trainer": ("l'entraîneur", "the trainer"),
    "killed_machine": ("la machine", "the machine"),
    "killed_manager": ("le gestionnaire", "the manager"),
    "once": ("une fois", "once"),
    "times": ("{} fois", "{} times"),
    "steps": ("milliers de décisions d’entraînement", "thousands of training decisions"),
    "delay": ("retard moyen (s par trajet)", "mean delay (s per trip)"),
    "due_minutes": ("heure d’entrée prévue (min)", "time of planned entry (min)"),
    "training": ("un entraînement", "one training"),
    "median_training": ("médiane des entraînements", "median of the trainings"),
    "session": ("fin d’une session", "end of a session"),
    "episode": ("un épisode", "one episode"),
    "gridlocked": ("épisode bloqué", "gridlocked episode"),
    "median": ("médiane", "median"),
    "phase": ("phase", "phase"),
    "lanes": ("{} voies", "{} lanes"),
    "lane": ("1 voie", "1 lane"),
    "north": ("nord", "north"),
    "east": ("est", "east"),
    "south": ("sud", "south"),
    "west": ("ouest", "west"),
    "north_east": ("nord-est", "north-east"),
    "north_west": ("nord-ouest", "north-west"),
    "south_east": ("sud-est", "south-east"),
    "south_west": ("sud-ouest", "south-west"),
    "way": ("chemin OSM {}", "OSM way {}"),
    "highway.primary": ("axe primaire", "primary road"),
    "highway.secondary": ("axe secondaire", "secondary road"),
    "highway.tertiary": ("axe tertiaire", "tertiary road"),
    "highway.residential": ("rue résidentielle", "residential street"),
    "highway.service": ("voie de desserte", "service road"),
    "road": ("route", "road"),
}


def word(key: str, language: Language) -> str:
    """The word for `key`."""
    return _WORDS[key][LANGUAGES.index(language)]


def is_a_word(key: str) -> bool:
    """Whether there are words for `key`."""
    return key in _WORDS
