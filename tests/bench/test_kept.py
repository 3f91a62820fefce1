"""Rivals' outcomes that are kept."""

from pathlib import Path

from tests.bench import kept
from tests.bench.play import Log

KEY = kept.Key("dehb", "DEHB 0.1.2", "hartmann3-good", "1", 7)
LOG = Log(epochs=700, seconds=1.5, trials=3, steps=[(1, 0.5, 0.25)], complete=[(27, 0.5)], returned=0.75)


def test_an_outcome_is_read_as_it_was_kept(tmp_path: Path) -> None:
    path = tmp_path / "rivals" / "outcomes.jsonl"
    assert kept.read(path) == {}
    kept.add(KEY, LOG, path)
    kept.add(KEY._replace(seed=8), Log(), path)
    found = kept.read(path)
    assert found[KEY].worth(700) == 0.25
    assert found[KEY].needed_complete(0.5) == 27
    assert (found[KEY].returned, found[KEY._replace(seed=8)].steps) == (0.75, [])


def test_a_line_that_was_cut_short_loses_itself_alone(tmp_path: Path) -> None:
    path = tmp_path / "outcomes.jsonl"
    kept.add(KEY, LOG, path)
    path.write_text(path.read_text() + path.read_text()[:40])
    kept.add(KEY._replace(seed=9), LOG, path)
    assert [key.seed for key in kept.read(path)] == [7, 9]


def test_another_version_problem_or_table_is_another_outcome() -> None:
    now = kept.Key.of("dehb", "recorded", 7)
    assert now.version == "DEHB 0.1.2"
    assert now.fingerprint != kept.Key.of("dehb", "hartmann3-good", 7).fingerprint
    assert now != kept.Key.of("random", "recorded", 7)._replace(rival="dehb")
