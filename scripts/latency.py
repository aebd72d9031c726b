#!/usr/bin/env python3
"""Measures how long a picture takes from an encoder over RTMP to a browser, and prints a Markdown table.

    cargo build --release --locked -p weir-server && scripts/latency.py

The picture carries the wall clock: a row of black and white squares, painted when the frame is made, before FFmpeg
encodes it. Headless Chromium reads the squares of each frame that it shows and compares them with the clock of the same
machine, so a figure holds everything: encoder, server, player, decoder. The players are the examples of docs/players.md.
One argument names another binary, more of them the examples. Needs Python 3.11, FFmpeg, Chromium and Node, and takes
about two minutes per player: they run one after the other, because two would measure each other.
"""

import json
import os
import pathlib
import subprocess
import sys
import threading
import time

from measure import ROOT, Weir

# 24 bits of milliseconds and a check byte, one square each. web/test/observe.mjs reads them.
CODE_BITS = 32
CODE_HEIGHT = 20
WIDTH = 640
HEIGHT = 360
FPS = 30
SECONDS = 60
# The first ten seconds that a player plays are not counted; it finds its place.
SETTLE_S = 10
STREAM = "clock"
GOALS = {
    "hls.js, low latency": "p95 ≤ 1.8 s",
    "hls.js, low latency, catching up": "p95 ≤ 1.8 s",
    "dash.js": "p95 ≤ 2.5 s",
}


def time_code():
    """One frame of squares, 8-bit grey, for this moment."""
    millis = time.time_ns() // 1_000_000 % (1 << 24)
    word = millis << 8 | 255 - sum(millis.to_bytes(3, "big")) % 256
    width = WIDTH // CODE_BITS
    row = b"".join((b"\xeb" if word >> bit & 1 else b"\x10") * width for bit in reversed(range(CODE_BITS)))
    return row * CODE_HEIGHT


class Publisher:
    """FFmpeg, fed with a frame of squares at each frame's time, over a moving test picture.

    A camera's first pictures are lost while an encoder starts. Here they would wait in queues and come late, and the
    server would take the late one for the beginning of its clock: so the queues are short, and frames wait until `live`.
    """

    def __init__(self, url):
        squares = ["-f", "rawvideo", "-pix_fmt", "gray", "-video_size", f"{WIDTH}x{CODE_HEIGHT}", "-framerate", str(FPS)]
        squares += ["-thread_queue_size", "1"]
        moving = f"testsrc2=s={WIDTH}x{HEIGHT - CODE_HEIGHT}:r={FPS}"
        stack = "[0:v]format=yuv420p[code];[1:v]format=yuv420p[moving];[code][moving]vstack[v]"
        video = ["-c:v", "libx264", "-preset", "veryfast", "-tune", "zerolatency", "-g", str(2 * FPS), "-b:v", "1500k"]
        command = ["ffmpeg", "-v", "error", "-probesize", "32", *squares, "-i", "-", "-f", "lavfi", "-i", moving]
        command += ["-f", "lavfi", "-i", "sine=r=48000", "-filter_complex", stack, "-map", "[v]", "-map", "2:a"]
        command += [*video, "-c:a", "aac", "-b:a", "96k", "-f", "flv", url]
        self.encoder = subprocess.Popen(command, stdin=subprocess.PIPE, pipesize=4096)
        self.live = threading.Event()
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.paint)
        self.thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.thread.join()
        # The test picture and the tone have no end; and it ends only when it does not wait for squares.
        self.encoder.terminate()
        self.encoder.stdin.close()
        self.encoder.wait()

    def paint(self):
        start = time.monotonic()
        frame = 0
        while not self.stopped.wait(max(0, start + frame / FPS - time.monotonic())):
            self.encoder.stdin.write(time_code())
            self.encoder.stdin.flush()
            frame += 1
            if not self.live.is_set():
                start = time.monotonic() - (frame - 1) / FPS


def watch(weir, example):
    """What web/test/snippets.mjs says of one example of docs/players.md."""
    origin = f"http://127.0.0.1:{weir.ports['http']}"
    command = ["node", str(ROOT / "web/test/snippets.mjs"), "--origin", origin, "--stream", STREAM, "--timecode"]
    command += ["--seconds", str(SETTLE_S + SECONDS), example]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)[example]


def main():
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    binary = os.path.abspath(sys.argv[1]) if len(sys.argv) > 1 else str(target.resolve() / "release/weir")
    examples = sys.argv[2:] or [
        "hls.js, low latency",
        "hls.js, low latency, catching up",
        "hls.js, classic",
        "dash.js",
        "dash.js, with settings of its own",
        "mpegts.js",
    ]
    print("| Player | p50 | p95 | max | Stalls | Goal |\n|---|---|---|---|---|---|", flush=True)
    with Weir(binary, "dev") as weir, Publisher(f"rtmp://127.0.0.1:{weir.ports['rtmp']}/live/{STREAM}") as publisher:
        while not any(row["name"] == STREAM and row["frames"] for row in json.loads(weir.get("/status"))["streams"]):
            time.sleep(0.1)
        publisher.live.set()
        # A player that comes before the playlist is full would measure how a stream begins.
        time.sleep(SETTLE_S)
        for example in examples:
            seen = watch(weir, example)
            glass = seen["glass"]
            if seen["errors"] or not glass["frames"]:
                raise OSError(f"{example}: {seen}")
            figures = [f"{glass[key] / 1000:.2f} s" for key in ("p50", "p95", "max")]
            print("| " + " | ".join([example, *figures, str(seen["stalls"]), GOALS.get(example, "")]) + " |", flush=True)


if __name__ == "__main__":
    main()
