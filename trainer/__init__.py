"""Trains small classifiers of sign-language landmark sequences, and packs the data that they are trained on.

Example, from generated data to a trained model::

    from trainer import ModelConfig, PackedDataset, TrainConfig, pack, synthesize, train

    synthesize("signs", num_signs=4, num_participants=5, repeats=4)
    pack("signs", "packed")
    dataset = PackedDataset.open("packed")
    model = ModelConfig(num_heads=1, num_layers=1, num_signs=dataset.num_signs)
    result = train(TrainConfig(model=model, epochs=2), dataset, "run", report=print)
    print(result.val_accuracy)

The same from the command line: python -m trainer.synthesize, trainer.pack and trainer.train. Public names are imported
when they are first used.
"""

from typing import TYPE_CHECKING

from trainer.common import lazy

if TYPE_CHECKING:
    from trainer.common.errors import UserError as UserError
    from trainer.config import ModelConfig as ModelConfig
    from trainer.config import TrainConfig as TrainConfig
    from trainer.data.dataset import PackedDataset as PackedDataset
    from trainer.data.packing import pack as pack
    from trainer.learning.loop import train as train
    from trainer.rundir import RunDir as RunDir
    from trainer.studydir import StudyDir as StudyDir
    from trainer.synthetic.generate import synthesize as synthesize

__all__ = lazy.install(
    __name__,
    {
        "ModelConfig": "trainer.config",
        "PackedDataset": "trainer.data.dataset",
        "RunDir": "trainer.rundir",
        "StudyDir": "trainer.studydir",
        "TrainConfig": "trainer.config",
        "UserError": "trainer.common.errors",
        "pack": "trainer.data.packing",
        "synthesize": "trainer.synthetic.generate",
        "train": "trainer.learning.loop",
    },
)
