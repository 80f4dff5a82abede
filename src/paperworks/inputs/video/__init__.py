"""Videos on this machine, decoded by PyAV in one pass and in bounded memory.

``probe_video`` says what a file is; ``decode_frames`` gives every frame with its time; ``frames_at_rate`` gives the
pictures on screen at a rate, whatever the file's own; ``thumbnails`` those at given times; ``read_audio`` the sound in
blocks. Times are seconds from the beginning of the file, from the frames' own time stamps, never from their numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from paperworks.lazy import lazy_imports

if TYPE_CHECKING:
    from paperworks.inputs.video.audio import audible_share, read_audio
    from paperworks.inputs.video.decoding import DecodeTally, TimedFrame, decode_frames
    from paperworks.inputs.video.probing import VIDEO_SUFFIXES, VideoInfo, find_videos, probe_video
    from paperworks.inputs.video.sampling import Picture, frames_at_rate, still, thumbnails
    from paperworks.inputs.video.writing import write_video
else:
    __getattr__, __dir__ = lazy_imports(__name__)

__all__ = [
    "VIDEO_SUFFIXES",
    "DecodeTally",
    "Picture",
    "TimedFrame",
    "VideoInfo",
    "audible_share",
    "decode_frames",
    "find_videos",
    "frames_at_rate",
    "probe_video",
    "read_audio",
    "still",
    "thumbnails",
    "write_video",
]
