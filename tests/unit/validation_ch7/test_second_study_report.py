"""What is kept of the second study, and what its report makes of it: from those data alone, and whatever they say."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from study_data import episode, keep_invented, small_declaration

from kaggle_manager.checkpoints.sealed_json import seal
from kaggle_manager.errors import ConfigError, NotFound, OutputDamaged
from validation_ch7.section_7_6_rl_performance.second_study.judging.comparison import compare, summarise
from validation_ch7.section_7_6_rl_performance.second_study.judging.crossed_bootstrap import Estimate
from validation_ch7.section_7_6_rl_performance.second_study.judging.declaration import Declaration, read_declaration
from validation_ch7.section_7_6_rl_performance.second_study.judging.verdicts import Verdict
from validation_ch7.section_7_6_rl_performance.second_study.kept.store import Kept, Place, Played
from validation_ch7.section_7_6_rl_performance.second_study.kept.study import carry_out
from validation_ch7.section_7_6_rl_performance.second_study.report import latex, provenance, tables, writing
from validation_ch7.section_7_6_rl_performance.second_study.report.__main__ import main
from validation_ch7.section_7_6_rl_performance.second_study.report.around import gather_around
from validation_ch7.section_7_6_rl_performance.second_study.report.results import gather
from validation_ch7.section_7_6_rl_performance.second_study.report.wording import LANGUAGES
from validation_ch7.section_7_6_rl_performance.second_study.report.writing import check_report, write_report

PLACE = Place("synthetic", "demand x1.2", "main", 101)


@pytest.fixture
def declaration(tmp_path: Path) -> Declaration:
    return small_declaration(tmp_path)


def text_of(kept: Kept, declaration: Declaration, language: latex.Language) -> str:
    results = gather(kept, declaration)
    around = gather_around(kept, declaration, results)
    return latex.section(results, around, language, provenance.describe(kept, declaration, results))


def test_what_is_kept_comes_back_to_the_millisecond_and_holds_no_path(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "kept")
    assert kept.episodes(PLACE) is None
    found = kept.keep_episodes(Played(PLACE, {"simulator": "SUMO"}, (episode(1, 30.00049), episode(2, 31.0, 1800.0))))
    assert [each.mean_delay_s for each in found.episodes] == [30.0, 31.0]
    assert found.episodes[1] == episode(2, 31.0, 1800.0)
    assert list(kept.every_episode()) == [found]
    (file,) = (tmp_path / "kept").rglob("*.json")
    assert file.relative_to(tmp_path / "kept").as_posix() == "episodes/synthetic/demand_x1.2/main_101.json"
    assert str(tmp_path) not in file.read_text(encoding="utf-8")


@pytest.mark.parametrize("harm", ["altered", "moved", "other columns"])
def test_kept_data_that_was_changed_is_named_and_never_used(tmp_path: Path, harm: str) -> None:
    kept = Kept(tmp_path)
    kept.keep_episodes(Played(PLACE, {}, (episode(1, 30.0),)))
    file = tmp_path / "episodes" / PLACE.path
    if harm == "altered":
        file.write_bytes(file.read_bytes().replace(b"30.0", b"20.0", 1))
    elif harm == "moved":
        file.rename(file.with_name("main_102.json"))
    else:
        body = json.loads(file.read_bytes())
        del body["seal"], body["schema"]
        file.write_bytes(seal({**body, "columns": body["columns"][::-1]}, schema=1))
    with pytest.raises(OutputDamaged, match=r"main_10[12]"):
        list(kept.every_episode())


def test_a_policy_is_the_one_that_its_training_names(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.keep_training("synthetic", "main", 101, {"seed": 101}, b"a policy")
    assert kept.policy("synthetic", "main", 101) == b"a policy"
    (tmp_path / "policies/synthetic/main_101.zip").write_bytes(b"another one")
    with pytest.raises(OutputDamaged, match="main_101"):
        kept.policy("synthetic", "main", 101)
    with pytest.raises(OutputDamaged, match="main_102"):
        kept.policy("synthetic", "main", 102)


def test_a_late_gridlock_counts_as_one_and_leaves_the_delay_of_the_other_episodes_alone(
    declaration: Declaration,
) -> None:
    clear = [[episode(seed, 30.0 + seed) for seed in range(10)]]
    jammed = [[episode(0, 75.0, 3000.0), *clear[0][1:]]]
    before, after = (summarise("max_pressure", each, declaration.judgement) for each in (clear, jammed))
    assert (before.gridlocked, after.gridlocked) == (0, 1)
    assert after.onsets_s == (3000.0,)
    assert after.delay.value == pytest.approx(35.0)
    assert after.delay_of_all.value == pytest.approx(39.0)
    assert before.gridlock_interval[1] == pytest.approx(0.2775, abs=1e-4)


def test_who_gridlocks_more_does_not_win_however_short_its_delay(declaration: Declaration) -> None:
    theirs = [[episode(seed, 30.0 + 0.1 * seed) for seed in range(40)]]
    ours = [
        [episode(seed, 20.0 + 0.1 * seed + 0.01 * ((seed + training) % 3)) for seed in range(40)]
        for training in range(3)
    ]
    (won,) = compare(ours, {"it": theirs}, declaration.judgement)
    assert (won.verdict, won.wins, won.cliffs_delta) == ("better", True, 1.0)
    jammed = [[episode(each.seed, each.mean_delay_s, 100.0 if each.seed < 10 else None) for each in ours[0]], *ours[1:]]
    (lost,) = compare(jammed, {"it": theirs}, declaration.judgement)
    assert (lost.verdict, lost.wins) == ("better", True), "10 of 120 is within the margin of 20 points"
    (lost,) = compare([jammed[0]], {"it": theirs}, declaration.judgement)
    assert (lost.verdict, lost.wins) == ("better", False), "10 of 40 is not"
    with pytest.raises(ValueError, match="same traffic"):
        compare([ours[0][1:]], {"it": theirs}, declaration.judgement)


@pytest.mark.parametrize(
    ("delay_s", "french", "english"),
    [
        (20.0, "est meilleur : plus bas de", "the delay is better: lower by"),
        (29.3, "les retards sont équivalents", "the delays are equivalent"),
        (40.0, "est moins bon : plus haut de", "the delay is worse: higher by"),
    ],
)
def test_every_sentence_of_result_is_chosen_by_the_data(
    tmp_path: Path, declaration: Declaration, delay_s: float, french: str, english: str
) -> None:
    delays = {"main": delay_s, "fixed_time": 29.3 + 0.05 * (delay_s == 29.3)}
    kept = keep_invented(tmp_path / "kept", declaration, delays, {"random": 2})
    said = {
        "fr": ["est meilleur :", "les retards sont équivalents", "est moins bon :"],
        "en": ["the delay is better:", "the delays are equivalent", "the delay is worse:"],
    }
    for language, wanted in (("fr", french), ("en", english)):
        text = text_of(kept, declaration, language)
        (line,) = [
            line
            for line in text.split(r"\subsection{Conclusion}")[0].splitlines()
            if line.startswith(("Contre le plan à temps fixe", "Against the shipped"))
        ]
        assert wanted in line
        assert sum(other in line for other in said[language]) == 1
    conclusion = text_of(kept, declaration, "fr").split(r"\subsection{Conclusion}")[1]
    assert ("sur chacune des 3" in conclusion) == (delay_s == 20.0)
    assert ("ne l'emporte, au sens du critère déclaré, sur aucune" in conclusion) == (delay_s != 20.0)
    assert "Il ne bloque le carrefour dans aucun" in conclusion
    said_of_all = {
        20.0: "sur chacune des 3~références. Il ne bloque",
        29.3: "contre le plan à temps fixe fourni, équivalent.",
        40.0: "son retard est moins bon",
    }
    assert said_of_all[delay_s] in conclusion.replace("\n", " ")


@pytest.mark.parametrize(("delay_s", "is_beaten"), [(20.0, False), (40.0, True)])
def test_a_condition_in_which_a_baseline_is_lower_is_named(
    tmp_path: Path, declaration: Declaration, delay_s: float, is_beaten: bool
) -> None:
    delays = {"main": delay_s, "greedy_queue": 25.0, "second": 1.0}
    kept = keep_invented(tmp_path / "kept", declaration, delays, {})
    (result,) = gather(kept, declaration)
    assert [each.controller for each in result.better_baselines.values()] == ["greedy_queue"] * is_beaten
    text = text_of(kept, declaration, "en")
    assert ("In each of the 1~conditions PPO has a lower" in text) != is_beaten
    assert ("In 0 of the 1~conditions PPO has a lower" in text) == is_beaten
    assert ("Exceptions: demand × 1.2 (PPO" in text) == is_beaten
    assert ("Exceptions : demande × 1,2 (PPO" in text_of(kept, declaration, "fr")) == is_beaten


def test_each_verdict_has_its_words_and_an_interval_within_the_margin_is_said(
    tmp_path: Path, declaration: Declaration
) -> None:
    kept = keep_invented(tmp_path / "kept", declaration, {}, {})
    (result, *others) = gather(kept, declaration)
    around = gather_around(kept, declaration, [result, *others])
    described = provenance.describe(kept, declaration, [result, *others])
    gaps: dict[Verdict, Estimate] = {
        "better": Estimate(-5.0, 0.3, 9), "lower": Estimate(-0.5, 0.1, 9), "equivalent": Estimate(0.1, 0.1, 9),
        "not established": Estimate(-2.0, 3.0, 9), "higher": Estimate(1.2, 0.3, 9), "worse": Estimate(9.0, 0.5, 9),
    }  # fmt: skip
    names = ["fixed_time", "sotl", "actuated", "longest_queue", "max_pressure", "advanced_max_pressure"]
    first = result.comparisons[0]
    comparisons = [
        replace(first, other=name, verdict=verdict, delay=gap, wins=False)
        for name, (verdict, gap) in zip(names, gaps.items(), strict=True)
    ]
    said = {
        "en": (
            "not established, and the interval lies within the margin",
            "Compared with the shipped fixed-time plan, its delay is better; with SOTL, lower, without",
            "Against the shipped fixed-time plan the criterion is not met, though the delay is better",
        ),
        "fr": (
            "sans qu'il soit établi que l'écart dépasse la marge ; l'intervalle est tout entier dans la marge",
            "Contre le plan à temps fixe fourni, son retard est meilleur ; contre SOTL, plus bas, sans dépassement",
            "Contre le plan à temps fixe fourni, le critère n'est pas rempli bien que le retard soit meilleur",
        ),
    }
    for language in LANGUAGES:
        summaries = {**result.summaries, **dict.fromkeys(names, result.summaries["fixed_time"])}
        told = replace(result, comparisons=comparisons, summaries=summaries)
        text = latex.section([told, *others], around, language, described).replace("\n", " ")
        for sentence in said[language]:
            assert sentence in text
        assert text.count(said[language][0]) == 1, "that of the higher one reaches beyond the margin"


def test_the_declared_study_can_be_told_in_both_languages(tmp_path: Path) -> None:
    declared = read_declaration()
    quickly = declared.model_copy(update={"judgement": declared.judgement.model_copy(update={"resamples": 50})})
    kept = keep_invented(tmp_path / "kept", quickly, {"main": 23.0, "second": 24.5}, {})
    results = gather(kept, quickly)
    around = gather_around(kept, quickly, results)
    otherwise = {each.name: (each.decisions, dict(each.otherwise)) for each in around.tried}
    assert otherwise["ppo_long"] == (216_000, {"gamma": 0.975})
    assert otherwise["ppo_longest"] == (720_000, {}), "as declared, but for its length"
    for language in ("fr", "en"):
        text = latex.section(results, around, language, provenance.describe(kept, quickly, results))
        assert text.count("PPO") > 10


def test_gridlocks_of_the_agent_are_told_with_the_trainings_they_are_of(
    tmp_path: Path, declaration: Declaration
) -> None:
    kept = keep_invented(tmp_path / "kept", declaration, {"main": 20.0}, {"main": 1})
    assert "$3$ of its" in text_of(kept, declaration, "en").replace("3 of its", "$3$ of its")
    assert "in 3 of 3~trainings" in text_of(kept, declaration, "en")
    assert "dans 3~entraînements sur 3" in text_of(kept, declaration, "fr")


def test_what_is_declared_and_not_kept_is_said_and_nothing_kept_is_not_found(
    tmp_path: Path, declaration: Declaration
) -> None:
    nothing = ["--kept", str(tmp_path / "none"), "--declaration", str(tmp_path / "declaration.toml")]
    for asked in ([], ["--check"], ["--replay", "1"]):
        assert main([*nothing, *asked]) == NotFound.exit_code
    assert not (tmp_path / "none").exists()
    kept = keep_invented(tmp_path / "kept", declaration, {}, {})
    assert "provisional" not in text_of(kept, declaration, "en")
    (kept.folder / "trainings/synthetic/main_103.json").unlink()
    (kept.folder / "episodes/synthetic/as_trained/main_103.json").unlink()
    text = text_of(kept, declaration, "en")
    assert "1~declared training and $6$~declared episodes are missing" in text, "a third of 20"
    draft = declaration.model_copy(update={"status": "draft"})
    assert "no number of this document is a result" in text_of(kept, draft, "en")


def test_what_saving_is_worth_is_told_by_what_came_of_each_way(tmp_path: Path, declaration: Declaration) -> None:
    kept = keep_invented(tmp_path / "kept", declaration, {}, {})
    assert "Ways of saving" not in text_of(kept, declaration, "en")
    for way, policy in (("latest_buffer", "b"), ("exact", "a"), ("whole", "a")):
        done = {"finished": True, "delays_s": [30.0, 31.0], "gridlocked": 0, "policy_sha256": policy}
        kept.keep_ablation(way, 301, {"way": way, "seed": 301, "sessions": 4, "decisions": 30, **done})
    kept.keep_ablation("none", 301, {"way": "none", "seed": 301, "sessions": 6, "decisions": 60, "finished": False})
    text = text_of(kept, declaration, "en")
    assert "ends with the policy of the training that was never killed, bit for bit" in text
    assert r"nothing & 0/1 & $6.0$ & $60$ & -- & -- & -- & -- \\" in text
    assert r"and replay buffer (SB3) & 1/1 & $4.0$ & $30$ & $30.5$ & $30.5$--$30.5$ & 0/2 & 0/1 \\" in text
    body = kept.ablation("exact", 301) or {}
    kept.keep_ablation("exact", 301, {**body, "policy_sha256": "c"})
    assert "dans 0~entraînement sur 1" in text_of(kept, declaration, "fr")


def test_a_training_over_sessions_is_told_with_its_kills_and_whether_its_bits_are_the_judged_ones(
    tmp_path: Path, declaration: Declaration
) -> None:
    kept = keep_invented(tmp_path / "kept", declaration, {}, {})
    judged = (kept.training("synthetic", "main", 101) or {})["policy_sha256"]
    body = {
        "seed": 101, "sessions": 4, "session_limit_s": 300.0, "kills": {"trainer": 1, "machine": 1, "manager": 2},
        "session_ends": [20_000], "session_seconds": 400.0, "training_seconds": 300.0,
        "policy_sha256": judged, "uninterrupted_policy_sha256": judged,
    }  # fmt: skip
    assert "was carried out once more" not in text_of(kept, declaration, "en")
    kept.keep_sessions("synthetic", body)
    (told,) = gather_around(kept, declaration, gather(kept, declaration)).over_sessions
    assert (told.goodput, told.equal) == (0.75, True)
    assert "killed were the trainer once, the machine once and the manager 2 times" in text_of(kept, declaration, "en")
    assert "Sa politique est, bit à bit, celle de" in text_of(kept, declaration, "fr")
    for name in ("policy_sha256", "uninterrupted_policy_sha256"):
        kept.keep_sessions("synthetic", {**body, name: "another"})
        assert r"\emph{not} that of the training without a session" in text_of(kept, declaration, "en")


def test_both_languages_have_one_provenance_which_changes_with_any_kept_file(
    tmp_path: Path, declaration: Declaration
) -> None:
    kept = keep_invented(tmp_path / "kept", declaration, {}, {})
    results = gather(kept, declaration)
    described = provenance.describe(kept, declaration, results)
    assert str(tmp_path) not in json.dumps(described)
    for language in ("fr", "en"):
        around = gather_around(kept, declaration, results)
        assert latex.section(results, around, language, described).count(described["id"]) >= 6
    for table in (tables.summary, tables.comparisons, tables.trainings):
        lines = table(results, described["id"]).decode().splitlines()
        assert len(lines) > 1
        assert all(line.endswith(described["id"]) for line in lines[1:])
    shutil.copytree(kept.folder, tmp_path / "copy")
    assert provenance.describe(Kept(tmp_path / "copy"), declaration, results) == described
    kept.keep_training("synthetic", "main", 101, {**(kept.training("synthetic", "main", 101) or {}), "step": 1}, b"")
    assert provenance.describe(kept, declaration, results)["id"] != described["id"]


@pytest.mark.slow
def test_in_another_folder_the_report_is_the_same_to_the_byte(tmp_path: Path, declaration: Declaration) -> None:
    kept = keep_invented(tmp_path / "kept", declaration, {"main": 25.0}, {"random": 2, "main": 1})
    write_report(kept, declaration)
    shutil.copytree(kept.folder, tmp_path / "clone")
    given = ["--kept", str(tmp_path / "clone"), "--declaration", str(tmp_path / "declaration.toml"), "--check"]
    assert main(given) == 0


def test_what_was_touched_in_a_report_is_named(
    tmp_path: Path, declaration: Declaration, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "FIGURES", {})  # they take seconds, and are files like any other
    kept = keep_invented(tmp_path / "kept", declaration, {}, {})
    folder = write_report(kept, declaration)
    assert check_report(kept, declaration) == len([path for path in folder.rglob("*") if path.is_file()])
    for name in ("tables/comparisons.csv", "section_7_6.fr.tex"):
        (folder / name).write_bytes((folder / name).read_bytes().replace(b"0", b"1", 1))
    (folder / "document.en.tex").unlink()
    with pytest.raises(OutputDamaged) as found:
        check_report(kept, declaration)
    for name in ("tables/comparisons.csv", "section_7_6.fr.tex", "document.en.tex"):
        assert name in found.value.message


def test_by_a_draft_nothing_is_trained_or_kept(tmp_path: Path, declaration: Declaration) -> None:
    draft = declaration.model_copy(update={"status": "draft"})
    with pytest.raises(ConfigError, match="draft"):
        carry_out(Kept(tmp_path / "kept"), draft, tmp_path / "trees")
    assert not (tmp_path / "kept").exists()
    assert not (tmp_path / "trees").exists()
