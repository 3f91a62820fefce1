#!/usr/bin/env bash
# What a Ray worker starts ends with the worker, children of children too, unless they are in a session of their own.
#
# ray 2.60.0, Linux. A process that an actor started with subprocess.Popen is ended when the actor goes out of scope, when
# ray.kill ends it, and when the worker dies of SIGKILL; so is a grandchild whose own parent has long ended. With a session of
# its own a child is still ended in the first two cases, and goes on in the third; a grandchild goes on in all. So what several
# workers share must be no child of the one that happened to need it first, and have a session of its own: neither is enough.
#
# guess: children of a worker go on as orphans when it ends, as with any process; at any rate those of their own session,
# and grandchildren.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check ray==2.60.0
cd "$folder"
cat > probe.py <<'PY'
import os
import signal
import subprocess
import time
from pathlib import Path

import ray

ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="CRITICAL")


@ray.remote
class Starter:
    def start(self, kind):
        begin = ["setsid", "sleep", "120"] if "own session" in kind else ["sleep", "120"]
        if "grandchild" in kind:
            words = f"{' '.join(begin)} >/dev/null 2>&1 & echo $!"
            return int(subprocess.run(["sh", "-c", words], capture_output=True, text=True).stdout), os.getpid()
        return subprocess.Popen(begin).pid, os.getpid()


def is_alive(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


for end in ("out of scope", "ray.kill", "SIGKILL"):
    found = []
    for kind in ("child", "grandchild", "child of own session", "grandchild of own session"):
        actor = Starter.remote()
        started, worker = ray.get(actor.start.remote(kind))
        if end == "ray.kill":
            ray.kill(actor)
        elif end == "SIGKILL":
            os.kill(worker, signal.SIGKILL)
        del actor
        until = time.monotonic() + 8
        while time.monotonic() < until and is_alive(started):
            time.sleep(0.1)
        found.append(f"{kind} {'goes on' if is_alive(started) else 'ended'}")
        if is_alive(started):
            os.kill(started, signal.SIGKILL)
    print(f"{end}: {', '.join(found)}", flush=True)
PY
seen=$("$folder/venv/bin/python" probe.py 2>/dev/null | grep -v raylet)
echo "$seen"
expected="out of scope: child ended, grandchild ended, child of own session ended, grandchild of own session goes on
ray.kill: child ended, grandchild ended, child of own session ended, grandchild of own session goes on
SIGKILL: child ended, grandchild ended, child of own session goes on, grandchild of own session goes on"
[ "$seen" = "$expected" ] || { echo "changed"; exit 1; }
# seen: out of scope: child ended, grandchild ended, child of own session ended, grandchild of own session goes on
# seen: ray.kill: child ended, grandchild ended, child of own session ended, grandchild of own session goes on
# seen: SIGKILL: child ended, grandchild ended, child of own session goes on, grandchild of own session goes on
