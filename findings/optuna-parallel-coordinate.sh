#!/usr/bin/env bash
# Optuna 5's parallel coordinates are no Parcoords of Plotly: a line trace for each trial, with ticks that are annotations.
#
# optuna 5.0.0 with plotly 7.1.0. plot_parallel_coordinate of N trials has N + 1 traces of type scatter; the last one only
# carries the colour bar. No axis can be brushed or dragged, and code that styles `dimensions` finds none. An axis of whole
# numbers from 1 to 4 is labelled 1, 1.75, 2.5, 3.25, 4. The line of the worst trial is nearly white: rgb(247,251,255).
#
# guess: one Parcoords trace with a dimension for each parameter, as before and as plotly.express draws them.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check optuna==5.0.0 plotly==7.1.0
cd "$folder"
cat > probe.py <<'PY'
import optuna

optuna.logging.set_verbosity(optuna.logging.ERROR)
study = optuna.create_study(direction="maximize")
kinds = {"heads": optuna.distributions.IntDistribution(1, 4)}
for heads, value in ((1, 0.0), (2, 0.5), (4, 1.0)):
    study.add_trial(optuna.trial.create_trial(params={"heads": heads}, distributions=kinds, value=value))
figure = optuna.visualization.plot_parallel_coordinate(study)
print("types", sorted({trace.type for trace in figure.data}), "of", len(figure.data), "for", len(study.trials), "trials")
print("has dimensions", any("dimensions" in trace.to_plotly_json() for trace in figure.data))
print("ticks of heads", [note.text for note in figure.layout.annotations if note.x == 1])
colour = figure.data[0].line.color
print("the worst trial's line", [round(float(part)) for part in colour[4:-1].split(",")])
PY
seen=$("$folder/venv/bin/python" probe.py)
echo "$seen"
expected="types ['scatter'] of 4 for 3 trials
has dimensions False
ticks of heads ['1', '1.75', '2.5', '3.25', '4']
the worst trial's line [247, 251, 255]"
[ "$seen" = "$expected" ] || { echo "changed"; exit 1; }
# seen: types ['scatter'] of 4 for 3 trials
# seen: ticks of heads ['1', '1.75', '2.5', '3.25', '4']
# seen: the worst trial's line [247, 251, 255]
