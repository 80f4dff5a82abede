"""The one pass over a video beside plain decoding by PyAV and PySceneDetect, and the memory of a long lecture.

    python benchmarks/quilt1m_throughput.py [--seconds 30] [--lecture-minutes 20] [--lecture-height 720]

The clip: parts of two photographs as 1280 x 720 pixels, 30 frames a second, a moving cursor, a cut every five seconds,
every third scene a slide. All read the same file, one after the other, with as many threads as ffmpeg takes. Times are
processor seconds of the whole process and wall seconds; ratios are to plain decoding in the same run. PySceneDetect
finds cuts only. The pass here also gives the frame filter's verdicts, the still segments and their medians.

The lecture is the clip's packets, repeated until it is long enough, with a transcript of 2.5 words a second. It is
curated by a process of its own, whose largest resident memory is shown. `--lecture-minutes 120` is two hours.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
from PIL import Image

from paperworks.inputs.transcripts import Cue, write_srt
from paperworks.inputs.video import decode_frames, write_video
from paperworks.papers.quilt1m.filters import PlainFilter
from paperworks.papers.quilt1m.lectures import cursor_place, random_crops, slide
from paperworks.papers.quilt1m.watching import watch_video

FPS, SCENE_SECONDS = 30, 5
CURATE = """
import sys
from pathlib import Path
from paperworks.papers.quilt1m import CurationSettings, VideoTextCurator, write_dataset
folder = Path(sys.argv[1])
videos = VideoTextCurator(CurationSettings()).run(folder / "videos", cache=folder / "cache")
data = write_dataset(folder / "data", videos)
print(len(data.pairs), data.pictures, len(videos[0].paired.chunks))
"""


def frames(seconds: int, height: int, fps: int) -> Iterator[np.ndarray]:
    """Scenes of five seconds at 16:9."""
    rng = np.random.default_rng(0)
    size = (height * 16 // 9, height)
    parts = random_crops(-(-seconds // SCENE_SECONDS), rng)
    for scene, part in enumerate(parts):
        shown = slide(["Lecture", f"part {scene}"]) if scene % 3 == 0 else part
        picture = np.asarray(Image.fromarray(shown).resize(size, Image.Resampling.BICUBIC))
        for number in range(SCENE_SECONDS * fps):
            frame = picture.copy()
            top, left = cursor_place(scene * SCENE_SECONDS * fps + number, *frame.shape[:2])
            frame[top : top + 24, left : left + 24] = 0
            yield frame


def repeated(source: Path, target: Path, seconds: int, times: int) -> None:
    """The packets of a video again and again, without decoding."""
    with av.open(str(target), "w") as out:
        stream = None
        for number in range(times):
            with av.open(str(source)) as container:
                template = container.streams.video[0]
                stream = stream or out.add_stream_from_template(template)
                for packet in container.demux(template):
                    if packet.dts is None:
                        continue
                    shift = round(number * seconds / packet.time_base)
                    packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                    packet.stream = stream
                    out.mux(packet)


def timed(
    name: str, work: Callable[[], object], clip_seconds: int, base: tuple[float, float] | None
) -> tuple[float, float]:
    """Run once; print processor and wall seconds, and their ratio to ``base``."""
    wall, used = time.perf_counter(), time.process_time()
    found = work()
    wall, used = time.perf_counter() - wall, time.process_time() - used
    ratio = "" if base is None else f"; {used / base[0]:.2f} x the processor time of plain decoding"
    print(
        f"{name:34s} {used:6.2f} s processor, {wall:6.2f} s wall: {clip_seconds / wall:5.1f} s of video a second{ratio}"
    )
    print(f"{'':34s} {found}")
    return used, wall


def scene_cuts(path: Path) -> str:
    """Cuts of PySceneDetect's detector for fast cuts, with its defaults, through PyAV."""
    from scenedetect import ContentDetector, detect

    cuts = [float(scene[0].seconds) for scene in detect(str(path), ContentDetector())][1:]
    return f"{len(cuts)} cuts: {', '.join(f'{cut:.2f}' for cut in cuts[:6])} ..."


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=30, help="of the clip")
    parser.add_argument("--lecture-minutes", type=int, default=20)
    parser.add_argument("--lecture-height", type=int, default=720)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        clip = folder / "clip.mp4"
        seconds = -(-options.seconds // SCENE_SECONDS) * SCENE_SECONDS
        write_video(clip, frames(seconds, 720, FPS), fps=FPS, bit_rate=4_000_000, keyframe_every=FPS * SCENE_SECONDS)
        watch_video(clip, folder / "warm", PlainFilter())
        base = timed("plain decoding, PyAV", lambda: sum(1 for _ in decode_frames(clip)), seconds, None)

        def watch() -> str:
            found = watch_video(clip, folder / "watched", PlainFilter())
            cuts = ", ".join(f"{t:.2f}" for t in found.times[1:7])
            return f"{len(found.times) - 1} key frames after the first: {cuts} ...; {len(found.stills)} still segments"

        timed("one pass of the curation", watch, seconds, base)
        timed("PySceneDetect", lambda: scene_cuts(clip), seconds, base)
        if options.lecture_minutes:
            lecture(folder, options.lecture_minutes, options.lecture_height)
    return 0


def lecture(folder: Path, minutes: int, height: int) -> None:
    """Curate a long lecture in a process of its own and print its memory."""
    unit = 60
    short = folder / "minute.mp4"
    write_video(short, frames(unit, height, 10), fps=10, bit_rate=2_000_000, keyframe_every=50)
    (folder / "videos").mkdir()
    repeated(short, folder / "videos" / "lecture.mp4", unit, minutes)
    said = "Here you see a part of the picture, and notice the darker edge on the left of it."
    write_srt([Cue(i * 7.0, i * 7.0 + 6.8, said) for i in range(minutes * 60 // 7)], folder / "videos" / "lecture.srt")
    wall = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", CURATE, str(folder)], check=True, capture_output=True, text=True)
    wall = time.perf_counter() - wall
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    pairs, pictures, chunks = done.stdout.split()[-3:]
    print(
        f"lecture of {minutes} minutes, {height * 16 // 9} x {height}, 10 frames a second: {wall:.0f} s wall, "
        f"{usage.ru_utime + usage.ru_stime:.0f} s processor, peak memory {usage.ru_maxrss / 2**20:.2f} GiB; "
        f"{chunks} chunks, {pictures} pictures, {pairs} pairs"
    )


if __name__ == "__main__":
    sys.exit(main())
