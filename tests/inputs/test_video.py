"""Videos: times from time stamps, rates, faults in files, sound."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest

from paperworks.errors import InputError
from paperworks.inputs.video import (
    DecodeTally,
    audible_share,
    decode_frames,
    find_videos,
    frames_at_rate,
    probe_video,
    read_audio,
    still,
    thumbnails,
    write_video,
)

pytest.importorskip("av")
HEIGHT, WIDTH = 48, 64


def shade(value: int) -> np.ndarray:
    return np.full((HEIGHT, WIDTH, 3), value, np.uint8)


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds at 10 frames a second; the brightness is 40, 80, 120, 160, a second each. With a tone."""
    path = tmp_path_factory.mktemp("video") / "steps.mp4"
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(2 * 16_000) / 16_000)
    sound = np.concatenate([tone, np.zeros(2 * 16_000)]).astype(np.float32)
    assert (
        write_video(path, (shade(40 * (1 + i // 10)) for i in range(40)), fps=10, keyframe_every=10, audio=sound) == 40
    )
    return path


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A variable frame rate: frames at 0, 0.1, 0.2, 3.0 and 3.5 seconds."""
    path = tmp_path_factory.mktemp("video") / "uneven.mkv"
    write_video(path, ((t, shade(v)) for t, v in [(0.0, 40), (0.1, 80), (0.2, 120), (3.0, 160), (3.5, 200)]))
    return path


def brightness(pixels: np.ndarray) -> int:
    return round(float(pixels.mean()) / 40) * 40


def test_probe(steps: Path, uneven: Path) -> None:
    info = probe_video(steps)
    assert (info.width, info.height, info.fps, info.codec, info.has_audio) == (WIDTH, HEIGHT, 10.0, "h264", True)
    assert info.duration == pytest.approx(4.0, abs=0.1)
    assert not probe_video(uneven).has_audio


def test_every_frame_has_its_time(steps: Path, uneven: Path) -> None:
    tally = DecodeTally()
    times = [f.time for f in decode_frames(steps, tally=tally)]
    assert times == pytest.approx(np.arange(40) / 10, abs=1e-4)
    assert (tally.frames, tally.corrupt, tally.variable_rate) == (40, 0, False)
    assert tally.end == pytest.approx(4.0, abs=0.05)
    tally = DecodeTally()
    assert [f.time for f in decode_frames(uneven, tally=tally)] == pytest.approx([0, 0.1, 0.2, 3.0, 3.5], abs=2e-3)
    assert tally.variable_rate


def test_decoding_holds_one_frame(steps: Path) -> None:
    assert inspect.isgenerator(decode_frames(steps))
    assert inspect.isgenerator(frames_at_rate(steps, 2))


@pytest.mark.parametrize(("rate", "count"), [(1, 4), (2, 8), (3, 12), (25, 100), (0.3, 2)])
def test_a_rate_gives_what_is_on_screen(steps: Path, rate: float, count: int) -> None:
    pictures = list(frames_at_rate(steps, rate))
    assert len(pictures) == count
    for number, picture in enumerate(pictures):
        assert picture.time == pytest.approx(number / rate)
        assert brightness(picture.pixels) == 40 * (1 + int(picture.time + 1e-6))


def test_a_rate_of_a_variable_rate(uneven: Path) -> None:
    pictures = list(frames_at_rate(uneven, 2, end=4.0))
    assert [p.time for p in pictures[:7]] == [0, 0.5, 1, 1.5, 2, 2.5, 3]
    assert [brightness(p.pixels) for p in pictures[:8]] == [40, 120, 120, 120, 120, 120, 160, 200]


def test_parts_and_sizes(steps: Path) -> None:
    part = list(frames_at_rate(steps, 2, start=1.5, end=3.0, width=32, gray=True))
    assert [p.time for p in part] == [1.5, 2.0, 2.5]
    assert part[0].pixels.shape == (24, 32)
    assert next(iter(frames_at_rate(steps, 1, width=10, height=20))).pixels.shape == (20, 10, 3)
    assert [f.time for f in decode_frames(steps, start=1.25, end=1.45)] == pytest.approx([1.2, 1.3, 1.4], abs=1e-4)


def test_thumbnails(steps: Path) -> None:
    found = thumbnails(steps, [3.9, 0.0, 1.95, 99.0], width=32)
    assert [brightness(p) for p in found] == [160, 40, 80, 160]
    assert found[0].shape == (24, 32, 3)
    assert still(steps, 2.05).time == pytest.approx(2.0, abs=1e-4)


def test_sound(steps: Path, uneven: Path) -> None:
    blocks = list(read_audio(steps, rate=8000, seconds=1.5))
    assert [start for start, _ in blocks][:3] == [0.0, 1.5, 3.0]
    assert sum(len(b) for _, b in blocks) / 8000 == pytest.approx(4.0, abs=0.1)
    assert np.abs(blocks[0][1]).max() == pytest.approx(0.3, abs=0.05)
    assert audible_share(steps) == pytest.approx(0.5, abs=0.15)
    assert audible_share(uneven) == 0.0
    with pytest.raises(InputError, match="without sound"):
        list(read_audio(uneven))


def test_corrupt_packets_are_passed_over_and_counted(steps: Path, tmp_path: Path) -> None:
    import av

    with av.open(str(steps)) as container:
        places = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    data = bytearray(steps.read_bytes())
    for at, size in places[12:16]:
        data[at : at + size] = bytes([0xFF]) * size
    (tmp_path / "broken.mp4").write_bytes(data)
    tally = DecodeTally()
    times = [f.time for f in decode_frames(tmp_path / "broken.mp4", tally=tally, threads=1)]
    assert tally.corrupt >= 1
    assert times == sorted(times)
    assert times[0] == 0
    assert times[-1] == pytest.approx(3.9, abs=1e-3)
    assert 20 <= len(times) < 40


def test_a_file_cut_off(steps: Path, uneven: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.mkv"
    write_video(tmp_path / "long.mkv", (shade(i % 200) for i in range(60)), fps=10)
    data = (tmp_path / "long.mkv").read_bytes()
    cut.write_bytes(data[: len(data) * 2 // 3])
    assert 1 <= len(list(decode_frames(cut))) < 60
    (tmp_path / "headless.mp4").write_bytes(steps.read_bytes()[:1000])
    with pytest.raises(InputError):
        probe_video(tmp_path / "headless.mp4")


def test_what_is_no_video(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"nonsense" * 100)
    (tmp_path / "b.mp4").touch()
    for name in ("a.mp4", "b.mp4", "c.mp4", "."):
        with pytest.raises(InputError):
            probe_video(tmp_path / name)
    with pytest.raises(InputError, match="rate"):
        next(frames_at_rate(tmp_path / "a.mp4", 0))
    with pytest.raises(InputError, match="start"):
        next(decode_frames(tmp_path / "a.mp4", start=-1))


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    import wave

    with wave.open(str(tmp_path / "a.wav"), "wb") as out:
        out.setparams((1, 2, 8000, 0, "NONE", ""))
        out.writeframes(bytes(16000))
    with pytest.raises(InputError, match="without moving pictures"):
        probe_video(tmp_path / "a.wav")


def test_videos_of_a_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="without videos"):
        find_videos(tmp_path)
    (tmp_path / "sub").mkdir()
    for name in ("b.MP4", "a.mkv", "a.srt", "sub/c.webm", ".hidden.mp4"):
        (tmp_path / name).touch()
    assert [p.name for p in find_videos(tmp_path)] == ["a.mkv", "b.MP4", "c.webm"]
    assert find_videos(tmp_path / "a.mkv") == [tmp_path / "a.mkv"]
    (tmp_path / "sub" / "a.mp4").touch()
    with pytest.raises(InputError, match="stem"):
        find_videos(tmp_path)
    with pytest.raises(InputError, match="no such"):
        find_videos(tmp_path / "none")


def test_writing(tmp_path: Path) -> None:
    one, two = tmp_path / "1.mp4", tmp_path / "2.mp4"
    for path in (one, two):
        write_video(path, [shade(10), shade(200)], fps=2)
    assert one.read_bytes() == two.read_bytes()
    with pytest.raises(InputError):
        write_video(one, [shade(0)])
    bad = [[], [shade(0)[:, :, :2]], [shade(0)[:47]], [shade(0), shade(0)[:46]], [(0.0, shade(0)), (0.0, shade(1))]]
    for number, pictures in enumerate(bad):
        with pytest.raises(InputError):
            write_video(tmp_path / f"bad{number}.mp4", pictures)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="ends in"):
        write_video(tmp_path / "a.xyz", [shade(0)])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["1.mp4", "2.mp4"]


def test_a_turned_video_is_shown_upright(tmp_path: Path) -> None:
    """A phone's video: the picture is stored lying, and the track's matrix turns it clockwise."""
    picture = shade(0)
    picture[:, : WIDTH // 4] = 255
    write_video(tmp_path / "flat.mp4", [picture] * 4, fps=4)
    data = bytearray((tmp_path / "flat.mp4").read_bytes())
    matrix = data.index(b"tkhd") + 44
    turn = (0, 0x10000, 0, 0xFFFF0000, 0, 0, HEIGHT << 16, 0, 0x40000000)
    data[matrix : matrix + 36] = b"".join(value.to_bytes(4, "big") for value in turn)
    (tmp_path / "turned.mp4").write_bytes(data)
    info = probe_video(tmp_path / "turned.mp4")
    assert (info.width, info.height) == (HEIGHT, WIDTH)
    frame = next(iter(decode_frames(tmp_path / "turned.mp4")))
    shown = frame.rgb()
    assert shown.shape == (WIDTH, HEIGHT, 3)
    assert shown[: WIDTH // 4 - 2].mean() > 240
    assert shown[WIDTH // 4 + 2 :].mean() < 15
    assert frame.gray(width=24).shape == (32, 24)
    assert frame.luma().shape == (HEIGHT, WIDTH)
