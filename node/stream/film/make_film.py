"""Make the film that ships with Rill: `python -m node.stream.film.make_film [OUT]`.

A tool for developers, not used at run time. It needs numpy, ffmpeg with libx264, and the Lato font. The
picture and the sound are computed, nothing is recorded or borrowed; the same tools give the same film.
"""

import subprocess
import sys
import tempfile
import wave
from pathlib import Path

from node.stream.film import sound, story
from node.stream.film.picture import HEIGHT, WIDTH, Picture

FRAMES_PER_SECOND = 30
VIDEO_BITS_PER_SECOND = 450_000
AUDIO_BITS_PER_SECOND = 80_000


def main() -> None:
    """Draw, sound and encode the film."""
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("rill.mp4")
    with tempfile.TemporaryDirectory() as folder:
        track = Path(folder, "sound.wav")
        write_sound(track)
        raw = Path(folder, "picture.mkv")
        draw(raw)
        encode(raw, track, out, Path(folder, "passes"))
    print(f"{out}: {out.stat().st_size:,} bytes")


def write_sound(path: Path) -> None:
    """The sound track as a WAV file."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(sound.RATE)
        file.writeframes(sound.sound().tobytes())


def draw(path: Path) -> None:
    """Every frame, kept without loss until both passes have read it."""
    picture = Picture()
    size = ["-s", f"{WIDTH}x{HEIGHT}", "-r", str(FRAMES_PER_SECOND)]
    command = ["ffmpeg", "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24", *size, "-i", "-"]
    lossless = ["-c:v", "libx264rgb", "-preset", "ultrafast", "-qp", "0", str(path)]
    with subprocess.Popen([*command, *lossless], stdin=subprocess.PIPE) as ffmpeg:
        assert ffmpeg.stdin is not None
        for number in range(int(story.SECONDS * FRAMES_PER_SECOND)):
            ffmpeg.stdin.write(picture.frame(number / FRAMES_PER_SECOND).tobytes())
        ffmpeg.stdin.close()
    if ffmpeg.returncode:
        raise SystemExit("ffmpeg could not keep the picture")


def encode(picture: Path, track: Path, out: Path, passes: Path) -> None:
    """H.264 and AAC in MP4 with the index in front, so that a player can start with the first chunk."""
    video = f"-c:v libx264 -preset veryslow -b:v {VIDEO_BITS_PER_SECOND} -profile:v high -pix_fmt yuv420p"
    steady = "-g 150 -aq-mode 3 -threads 1"
    colour = "-vf scale=out_color_matrix=bt709 -colorspace bt709 -color_primaries bt709 -color_trc bt709"
    audio = f"-c:a aac -b:a {AUDIO_BITS_PER_SECOND} -shortest"
    about = "-map_metadata -1 -fflags +bitexact -metadata title=Rill -movflags +faststart"
    shared = [*f"{video} {steady} {colour}".split(), "-passlogfile", str(passes)]
    start = ["ffmpeg", "-v", "error", "-y", "-i", str(picture)]
    subprocess.run([*start, *shared, "-pass", "1", "-an", "-f", "null", "-"], check=True)
    second = [*shared, *f"-pass 2 {audio} {about}".split(), str(out)]
    subprocess.run([*start, "-i", str(track), *second], check=True)


if __name__ == "__main__":
    main()
