"""All doors by name."""

from typing import Final

from tests.fuzz.doors import Door, contest, options, packed, study, submission

DOORS: Final[dict[str, Door]] = {
    door.name: door for module in (contest, packed, options, study, submission) for door in module.DOORS
}
