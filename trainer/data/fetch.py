"""A packed dataset behind a URI, fetched once for all processes of a machine and checked against its manifest."""

import shutil
from pathlib import Path

from trainer.common.errors import UserError
from trainer.common.files import atomic_path, locked, sha256
from trainer.common.storage import Remote, cache_folder, copy_folder
from trainer.data.manifest import FRAMES, MANIFEST, SEQUENCES, fingerprint, read_manifest, remember, verify_once


def fetch(uri: str, patience: float = 0.0) -> Path:
    """This machine's copy of a packed dataset behind a URI, fetched unless it is there.

    Storage that is out of reach is tried again for ``patience`` seconds.

    Raises UserError if there is none, if it cannot be read, or if what was fetched is not what its manifest says.
    """
    remote = Remote.open(uri, patience)
    about = copy_folder("manifests", uri) / MANIFEST
    if not remote.has(MANIFEST):
        raise UserError(f"{uri}: not a packed dataset (no {MANIFEST}); copy there what trainer.pack made")
    remote.download(MANIFEST, about)
    manifest = read_manifest(about.parent, uri)
    folder = cache_folder("data", fingerprint(manifest))
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        if not _is_whole(folder):
            for name in (FRAMES, SEQUENCES):
                remote.download(name, folder / name)
                if sha256(folder / name) != manifest["sha256"][name]:
                    (folder / name).unlink()
                    raise UserError(f"{uri}: {name} is not what {MANIFEST} says; copy the packed dataset there again")
            with atomic_path(folder / MANIFEST) as temporary:
                shutil.copyfile(about, temporary)
            remember(folder)
    return folder


def _is_whole(folder: Path) -> bool:
    """Whether a copy is there, and is still what its manifest says."""
    if not (folder / MANIFEST).exists():
        return False
    try:
        verify_once(folder)
    except UserError:
        return False
    return True
