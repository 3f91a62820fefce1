"""Dealing people into used and unseen ones, and what is said of all splits."""

import json
from pathlib import Path

import pandas as pd

from tests.bench.stated import Outcome, deal, summary


def test_a_part_has_the_sequences_of_its_people_alone(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    (raw / "train_landmark_files" / "7").mkdir(parents=True)
    (raw / "train_landmark_files" / "7" / "1.parquet").write_text("landmarks")
    (raw / "sign_to_prediction_index_map.json").write_text(json.dumps({"hi": 0}))
    lines = ["path,participant_id,sequence_id,sign"]
    lines += [f"train_landmark_files/{person}/{person}.parquet,{person},{person},hi" for person in (7, 8, 9)]
    (raw / "train.csv").write_text("\n".join(lines))
    part = deal(raw, tmp_path / "part", [9, 7])
    assert pd.read_csv(part / "train.csv")["participant_id"].tolist() == [7, 9]
    assert (part / "train_landmark_files" / "7" / "1.parquet").read_text() == "landmarks"


def test_the_summary_tells_bias_with_its_error_and_how_often_the_interval_held() -> None:
    first = Outcome(0, stated=0.80, low=0.75, high=0.85, selected_on=0.84, truth=0.78, shipped=0.82, models=1)
    second = Outcome(1, stated=0.80, low=0.79, high=0.85, selected_on=0.84, truth=0.76, shipped=0.80, models=3)
    said = summary([first, second])
    assert said["stated_minus_true"] == "+3.00 ± 1.00"
    assert said["selected_on_minus_true"] == "+7.00 ± 1.00"
    assert said["stated_minus_trained_on_all"] == "-1.00 ± 1.00"
    assert (said["true_is_inside"], said["trained_on_all_is_inside"]) == (1, 2)
