"""Notes that users keep of trials, in a study's notes.json."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from trainer.common.errors import UserError
from trainer.common.fields import shorten
from trainer.common.files import write_json
from trainer.common.strict import described, read_object
from trainer.studydir import NOTES

ADVICE: Final = "correct it, or remove it: it holds nothing but notes"


def read_notes(directory: Path) -> dict[int, str]:
    """What users noted of the trials of the study in ``directory``, by number; nothing if there is no notes.json.

    Raises UserError if the file is broken.
    """
    path = directory / NOTES
    if not path.exists():
        return {}
    content = read_object(path, ADVICE)
    for number, text in content.items():
        if not (number.isascii() and number.isdecimal()) or not isinstance(text, str):
            wrong = f"{shorten(number)}: must be a trial's number with a text, not {described(text)}"
            raise UserError(f"{path}: {wrong}; {ADVICE}")
    return {int(number): text for number, text in content.items()}


def write_notes(directory: Path, notes: Mapping[int, str]) -> None:
    """Put these notes, by number, among those of the study in ``directory``; an empty one removes what was noted.

    Raises UserError if the file is broken.

    >>> import tempfile
    >>> study = Path(tempfile.mkdtemp())
    >>> write_notes(study, {7: "overfits", 2: "good on rare signs"})
    >>> write_notes(study, {7: ""})
    >>> read_notes(study)
    {2: 'good on rare signs'}
    """
    kept = {**read_notes(directory), **notes}
    write_json(directory / NOTES, {str(number): kept[number] for number in sorted(kept) if kept[number]})
