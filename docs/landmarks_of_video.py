"""Landmarks of a video or a camera, as a file in the contest's layout, for ensemble.predict.

    python docs/landmarks_of_video.py signing.mp4 signing.parquet
    python docs/landmarks_of_video.py 0 signing.parquet --seconds 3

MediaPipe 0.10.21 is the last version whose package holds the models of all landmarks. It needs NumPy 1, and this
project NumPy 2, so it has an environment of its own, on Python 3.9 to 3.12 (docs/ensemble.md).
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PARTS = {"face": 468, "left_hand": 21, "pose": 33, "right_hand": 21}
"""Landmarks of a frame, in the contest's order"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="a video file, or the number of a camera, of which 0 is the first")
    parser.add_argument("out", type=Path, help="parquet file to write")
    parser.add_argument("--seconds", type=float, default=3.0, help="how long a camera is watched (default: 3)")
    options = parser.parse_args()
    try:
        rows = [row for number, image in frames(options) for row in rows_of(number, image)]
        if not rows:
            raise ValueError(f"{options.source}: has no frames that OpenCV can read; give a video such as an MP4 file")
        write(rows, options.out)
    except (ImportError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    found = {
        part: sum(row["type"] == part and row["x"] is not None for row in rows) // size for part, size in PARTS.items()
    }
    seen = ", ".join(f"{part} in {count}" for part, count in found.items())
    print(f"{options.out}: {len(rows) // sum(PARTS.values())} frames; {seen}")


def frames(options: argparse.Namespace) -> Iterator[tuple[int, Any]]:
    """Frames by number, from 0, and what MediaPipe found in each."""
    os.environ.setdefault("GLOG_minloglevel", "2")
    import cv2
    from mediapipe.python.solutions.holistic import Holistic

    is_camera = options.source.isdecimal()
    capture = cv2.VideoCapture(int(options.source) if is_camera else options.source)
    end = time.monotonic() + options.seconds
    number = 0
    with Holistic() as holistic:  # which follows a person from frame to frame
        while not is_camera or time.monotonic() < end:
            is_read, image = capture.read()
            if not is_read:
                break
            yield number, holistic.process(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
            number += 1
    capture.release()


def rows_of(frame: int, found: Any) -> Iterator[dict[str, Any]]:
    """The 543 rows of a frame; x and y as shares of the image, all of them missing for what was not found."""
    for part, size in PARTS.items():
        landmarks = getattr(found, f"{part}_landmarks")
        points = (
            [(point.x, point.y, point.z) for point in landmarks.landmark] if landmarks else [(None, None, None)] * size
        )
        for index, (x, y, z) in enumerate(points):
            row_id = f"{frame}-{part}-{index}"
            yield {"frame": frame, "row_id": row_id, "type": part, "landmark_index": index, "x": x, "y": y, "z": z}


def write(rows: list[dict[str, Any]], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number, text, share = pa.int16(), pa.string(), pa.float64()
    kinds = {
        "frame": number,
        "row_id": text,
        "type": text,
        "landmark_index": number,
        "x": share,
        "y": share,
        "z": share,
    }
    pq.write_table(pa.Table.from_pylist(rows, pa.schema(list(kinds.items()))), path)


if __name__ == "__main__":
    main()
