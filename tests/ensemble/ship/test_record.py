"""What selection.json says."""

import json
from datetime import UTC, datetime

from ensemble.evaluation.unseen import Accuracies, Unseen
from ensemble.ship import record
from ensemble.tflite.latency import Target

SEEN = Accuracies(ensemble=0.9, single=0.8)


def test_unseen_accuracies_say_whether_a_single_model_is_as_good():
    unseen = Unseen(
        ensemble=0.8,
        single=0.7,
        participants=8,
        ensemble_interval=(0.7, 0.9),
        single_interval=(0.6, 0.8),
        gain_interval=(0.01, 0.2),
    )
    found = record.of_accuracies(SEEN, unseen)
    assert found["seen_by_selection"] == {"ensemble": 0.9, "single": 0.8}
    assert found["unseen_participants"]["single_is_as_good"] is False
    assert record.of_accuracies(SEEN, None)["unseen_participants"] is None
    json.dumps(found)


def test_says_where_latencies_were_measured():
    found = record.of_target(Target(threads=2, latency_scale=1.5))
    assert (found["threads"], found["latency_scale"]) == (2, 1.5)
    assert set(found["versions"]) == {"python", "sign-ensemble-search", "ai-edge-litert"}


def test_is_stamped_with_the_time():
    made = datetime.fromisoformat(record.stamped({"a": 1})["created"])
    assert abs((datetime.now(UTC) - made).total_seconds()) < 60
