"""Search for good configurations: Optuna decides, Ray Tune executes, results/STUDY keeps everything.

    python -m search.run --trials 64 --data PACKED            # this machine
    python -m search.run --trials 64 --data PACKED --address auto --gpus-per-trial 0.25
    python -m search.run --trials 64 --data s3://... --results s3://... --address auto    # nodes that share no folder
    python -m search.run --resume --name STUDY                # goes on after any interruption

With no --data, a small generated dataset is made and searched on.
"""

from search.options import SearchOptions
from trainer.common import cli
from trainer.common.cli import command


@command(
    "search.run",
    SearchOptions,
    examples=[
        "--trials 64 --data results/data/asl-signs --name asl --time-budget 8h",
        "--resume --name asl",
        "--trials 200 --data s3://bucket/packed --results s3://bucket/results --address auto --gpus-per-trial 0.25",
    ],
)
def main(options: SearchOptions) -> None:
    from search.show.starting import LOADING, Starting

    with Starting() as starting:
        starting.say(LOADING)
        from search.ending import require_new, resumable, show_outcome
        from search.execute.driver import named, run_search
        from trainer.common.storage import join

        options = named(options)
        if not options.resume:
            require_new(join(options.results, options.name or ""), options)
        with resumable(options):
            outcome = run_search(options, starting)
    show_outcome(outcome, options)


if __name__ == "__main__":
    cli.run(main)
