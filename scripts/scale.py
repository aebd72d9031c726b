#!/usr/bin/env python3
"""Measures how the cost of a server grows with its viewers and its streams, prints tables and draws a chart.

    cargo build --release --locked -p weir-server && scripts/scale.py

The server has the first core that this script may use, load (`weir bench`) the others. One argument names another binary.
Needs Python 3.11, two cores and, for the comparison, nginx with nginx-rtmp; uses loopback only and takes about ten
minutes. Ten thousand viewers need as many descriptors in each of two processes: see ulimit -Hn.
The chart goes to docs/images/scale.svg; processor time that is not valid, because the load generator was the limit, is
not in it.
"""

import contextlib
import json
import math
import os
import pathlib
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time

from measure import ROOT, Weir, cpu_s, rss_mib

VIEWERS = [10, 100, 1000, 10000]
STREAMS = [1, 10, 100, 500]
VIEWER_BITRATE = "600k"
STREAM_BITRATE = "1M"
VIEWERS_S = 20
# Until the live window of HLS is full, and with it the memory of a stream.
FILL_S = 30
STREAMS_S = 20
COMPARED_STREAMS = 50
ROUNDS = 2
CHART = ROOT / "docs/images/scale.svg"


class Cores:
    """One for the server, the others for load."""

    def __init__(self):
        self.all = sorted(os.sched_getaffinity(0))
        if len(self.all) < 2:
            sys.exit("server and load need a core each")

    @contextlib.contextmanager
    def of_server(self):
        """What is started in here has the first core."""
        os.sched_setaffinity(0, self.all[:1])
        try:
            yield
        finally:
            os.sched_setaffinity(0, self.all[1:])


def keys(count):
    return {
        "WEIR_AUTH_PUBLISH_KEYS": ",".join(f"load{number}=scale-key-{number}" for number in range(count)),
        "MAX_CONCURRENT_STREAMS": str(count),
    }


class Publishers:
    """`weir bench publish`, while it is entered."""

    def __init__(self, binary, url, streams, bitrate):
        command = [binary, "bench", "publish", url, "--streams", str(streams), "--bitrate", bitrate]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is not None:
            raise OSError("the publishers ended early")
        self.process.send_signal(signal.SIGINT)
        self.process.wait()


def weir_publishers(binary, weir, streams, bitrate):
    return Publishers(binary, f"rtmp://127.0.0.1:{weir.ports['rtmp']}/live/load{{n}}?key=scale-key-{{n}}", streams, bitrate)


def wait_for_streams(weir, count):
    while sum(row["frames"] > 0 for row in json.loads(weir.get("/status"))["streams"]) < count:
        time.sleep(0.1)


def start(cores, binary, streams):
    with cores.of_server():
        return Weir(binary, "serve", settings=keys(streams))


def viewers(cores, binary, count):
    """The report of `weir bench` on viewers of one stream."""
    with start(cores, binary, 1) as weir, weir_publishers(binary, weir, 1, VIEWER_BITRATE), tempfile.TemporaryDirectory() as folder:
        wait_for_streams(weir, 1)
        report = os.path.join(folder, "report.json")
        url = f"http://127.0.0.1:{weir.ports['http']}/live/load0.flv"
        command = [binary, "bench", "flv", url, "--viewers", str(count), "--ramp", str(max(2, count // 500))]
        command += ["--duration", str(VIEWERS_S), "--pid", str(weir.process.pid), "--json", report]
        # It fails as well if something was not whole, or if it was itself the limit; the report says so.
        subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return json.loads(pathlib.Path(report).read_text())


def doubt(report):
    """Why its processor time and latency say little of the server, or are noisy."""
    return report["own"]["bottleneck"] or ("the machine was busy" if report["others_cores"] > 0.25 else "")


def viewers_row(count, report):
    server, latency = report["server"], report["latency_ms"]
    cells = [f"{count}", f"{server['cpu_percent']:.1f} %", f"{server['cpu_seconds_per_gb']:.2f}", f"{server['rss_mb_max']:.0f} MB"]
    cells += [f"{latency['p50']:.0f} ms, {latency['p99']:.0f} ms", str(sum(report["errors"].values())), doubt(report)]
    return cells


def sample(pid):
    """Share of a core in percent, and megabytes, of streams that have run for a while."""
    time.sleep(FILL_S)
    before, begun = cpu_s(pid), time.monotonic()
    time.sleep(STREAMS_S)
    return 100 * (cpu_s(pid) - before) / (time.monotonic() - begun), rss_mib(pid) * 1.048576


def received(weir):
    """Bytes of all streams."""
    return sum(row["bytes_in"] for row in json.loads(weir.get("/status"))["streams"])


def streams(cores, binary, count):
    """As `sample`, and the megabits a second of each stream: fewer than wanted if the publishers were too slow."""
    with start(cores, binary, count) as weir, weir_publishers(binary, weir, count, STREAM_BITRATE):
        wait_for_streams(weir, count)
        before, begun = received(weir), time.monotonic()
        cpu, mb = sample(weir.process.pid)
        return cpu, mb, (received(weir) - before) * 8e-6 / (time.monotonic() - begun) / count


def streams_row(count, cpu, mb, mbit):
    return [f"{count}", f"{cpu:.1f} %", f"{cpu / count:.2f} %", f"{mb:.0f} MB", f"{mb / count:.1f} MB", f"{mbit:.2f}"]


def nginx_streams(cores, binary, count):
    """The same of nginx-rtmp with HLS on, one worker."""
    with tempfile.TemporaryDirectory() as folder, socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        taken.close()
        config = pathlib.Path(folder, "nginx.conf")
        config.write_text(f"""
            load_module /usr/lib/nginx/modules/ngx_rtmp_module.so;
            daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
            events {{ worker_connections 4096; }}
            rtmp {{ server {{ listen 127.0.0.1:{port}; chunk_size 60000; application live {{
                live on; hls on; hls_path {folder}/hls; hls_fragment 2s; hls_playlist_length 20s; }} }} }}
        """)
        with cores.of_server():
            command = ["nginx", "-c", str(config), "-p", folder, "-e", f"{folder}/error.log"]
            nginx = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        try:
            while True:
                with contextlib.suppress(ConnectionRefusedError):
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                time.sleep(0.05)
            with Publishers(binary, f"rtmp://127.0.0.1:{port}/live/load{{n}}", count, STREAM_BITRATE):
                return *sample(nginx.pid), None
        finally:
            nginx.terminate()
            nginx.wait()


class Panel:
    """One chart with logarithmic axes."""

    WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 400, 270, 56, 44, 24, 46

    def __init__(self, title, across, points):
        self.title, self.across, self.points = title, across, points
        self.x_range, self.y_range = (self.decades(values) for values in zip(*points))

    @staticmethod
    def decades(values):
        low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
        return low, max(high, low + 1)

    @staticmethod
    def place(value, bounds, begin, end):
        low, high = bounds
        return begin + (math.log10(value) - low) / (high - low) * (end - begin)

    def x(self, value):
        return self.place(value, self.x_range, self.LEFT, self.WIDTH - self.RIGHT)

    def y(self, value):
        return self.place(value, self.y_range, self.HEIGHT - self.BOTTOM, self.TOP)

    @staticmethod
    def number(value):
        """With two digits at least."""
        return f"{value:.0f}" if value >= 10 else f"{value:.2g}"

    def svg(self, left, top):
        bottom, right = self.HEIGHT - self.BOTTOM, self.WIDTH - self.RIGHT
        parts = [f'<g transform="translate({left} {top})">', f'<text x="{self.LEFT}" y="20" class="title">{self.title}</text>']
        for power in range(self.y_range[0], self.y_range[1] + 1):
            y = self.y(10**power)
            parts.append(f'<path class="grid" d="M{self.LEFT} {y:.1f}H{right}"/>')
            parts.append(f'<text x="{self.LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{10**power:g}</text>')
        for power in range(self.x_range[0], self.x_range[1] + 1):
            x = self.x(10**power)
            parts.append(f'<path class="grid" d="M{x:.1f} {self.TOP}V{bottom}"/>')
            parts.append(f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{10**power:g}</text>')
        parts.append(f'<text x="{(self.LEFT + right) / 2}" y="{bottom + 37}" text-anchor="middle">{self.across}</text>')
        places = [(self.x(x), self.y(y), y) for x, y in self.points]
        line = "L".join(f"{x:.1f} {y:.1f}" for x, y, _ in places)
        parts.append(f'<path class="line" d="M{line}"/>')
        for x, y, value in places:
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"/>')
            anchor = "end" if x > right - 30 else "middle"
            parts.append(f'<text x="{x:.1f}" y="{y - 10:.1f}" text-anchor="{anchor}" class="value">{self.number(value)}</text>')
        return "\n".join([*parts, "</g>"])


def chart(panels):
    """Two panels a row. Its colours can be read on white and on black."""
    width, height = 2 * Panel.WIDTH, (len(panels) + 1) // 2 * Panel.HEIGHT
    style = "text{font:12px sans-serif;fill:#808790}.title{font-size:14px;font-weight:bold}.value{fill:#3b82d6}"
    style += ".grid{stroke:#808790;stroke-opacity:.3}.line{fill:none;stroke:#3b82d6;stroke-width:2}circle{fill:#3b82d6}"
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">']
    parts += ["<title>How the cost of a server grows with viewers and with streams</title>", f"<style>{style}</style>"]
    parts += [panel.svg(at % 2 * Panel.WIDTH, at // 2 * Panel.HEIGHT) for at, panel in enumerate(panels)]
    return "\n".join([*parts, "</svg>\n"])


def table(head, rows):
    print("\n| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    sys.stdout.flush()


def main():
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    binary = os.path.abspath(sys.argv[1]) if len(sys.argv) > 1 else str(target.resolve() / "release/weir")
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    cores = Cores()
    print(f"load average before: {os.getloadavg()[0]:.1f}")
    of_viewers = [(count, viewers(cores, binary, count)) for count in VIEWERS]
    head = ["HTTP-FLV viewers", "CPU of one core", "CPU-s/GB", "Memory", "Latency p50, p99", "Errors", "Doubts"]
    table(head, [viewers_row(count, report) for count, report in of_viewers])
    of_streams = [(count, *streams(cores, binary, count)) for count in STREAMS]
    head = ["Streams", "CPU of one core", "of each", "Memory", "of each", "Mbit/s of each"]
    table(head, [streams_row(*measured) for measured in of_streams])
    compared = []
    for _ in range(ROUNDS):
        for name, measure in (("Weir", streams), ("nginx-rtmp", nginx_streams)):
            cpu, mb, _ = measure(cores, binary, COMPARED_STREAMS)
            compared.append([name, f"{cpu:.1f} %", f"{mb:.0f} MB"])
    table([f"{COMPARED_STREAMS} streams", "CPU of one core", "Memory"], compared)
    print(f"\nload average after: {os.getloadavg()[0]:.1f}")
    cpu_of_viewers = [(count, report["server"]["cpu_percent"]) for count, report in of_viewers if not report["own"]["bottleneck"]]
    memory_of_viewers = [(count, report["server"]["rss_mb_max"]) for count, report in of_viewers]
    # Less than a tick of the kernel's counter has no logarithm.
    tick = 100 / STREAMS_S / os.sysconf("SC_CLK_TCK")
    watched, unwatched = "HTTP-FLV viewers of one stream, 600 kbit/s", "streams of 1 Mbit/s, nobody watching"
    panels = [
        ("Processor, % of a core", watched, cpu_of_viewers),
        ("Memory, MB", watched, memory_of_viewers),
        ("Processor, % of a core", unwatched, [(count, max(cpu, tick)) for count, cpu, *_ in of_streams]),
        ("Memory, MB", unwatched, [(count, mb) for count, _, mb, _ in of_streams]),
    ]
    CHART.write_text(chart([Panel(*panel) for panel in panels if panel[2]]))
    print(f"wrote {CHART.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
