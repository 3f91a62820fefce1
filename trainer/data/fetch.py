"""A packed dataset behind a URI, fetched once for all processes of a machine and checked against its manifest."""

import json
import shutil
from pathlib import Path

from trainer.common.errors import UserError
from trainer.common.files import atomic_path, locked, sha256
from trainer.common.storage import Remote, cache_folder, copy_folder
from trainer.data.manifest import FRAMES, MANIFEST, SEQUENCES, fingerprint


def fetch(uri: str) -> Path:
    """This machine's copy of a packed dataset behind a URI, fetched unless it is there.

    Raises UserError if there is none, if it cannot be read, or if what was fetched is not what its manifest says.
    """
    remote = Remote.open(uri)
    about = copy_folder("manifests", uri) / MANIFEST
    if not remote.has(MANIFEST):
        raise UserError(f"{uri}: not a packed dataset (no {MANIFEST}); copy there what trainer.pack made")
    remote.download(MANIFEST, about)
    try:
        manifest = json.loads(about.read_text())
        wanted = {name: manifest["sha256"][name] for name in (FRAMES, SEQUENCES)}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{uri}: {MANIFEST} cannot be read ({error}); copy the packed dataset there again") from error
    folder = cache_folder("data", fingerprint(manifest))
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        if not (folder / MANIFEST).exists():
            for name, expected in wanted.items():
                remote.download(name, folder / name)
                if sha256(folder / name) != expected:
                    (folder / name).unlink()
                    raise UserError(f"{uri}: {name} is not what {MANIFEST} says; copy the packed dataset there again")
            with atomic_path(folder / MANIFEST) as temporary:
                shutil.copyfile(about, temporary)
    return folder
