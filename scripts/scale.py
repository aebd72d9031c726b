#!/usr/bin/env python3
"""Measures how the cost of a server grows with its viewers and its streams, prints tables and draws a chart.

    cargo build --release --locked -p weir-server && scripts/scale.py

The server has the first core for itself, load (`weir bench`) the second. Needs Python 3.11, uses loopback only and takes
about eight minutes. Ten thousand viewers need as many descriptors in each of two processes: see ulimit -Hn. The chart
goes to docs/images/scale.svg; processor time that is not valid, because the load generator was the limit, is not in it.
"""

import json
import math
import os
import resource
import sys
import time

from compare import CROWD_BITRATE, FILL_S, MEASURED_S, STREAM_BITRATE, Pinned, Publisher, cpu_percent, rss_mb, watch
from measure import ROOT, others

VIEWERS = [10, 100, 1000, 10000]
STREAMS = [1, 10, 100, 500]
CHART = ROOT / "docs/images/scale.svg"


def viewers(count):
    """The report of `weir bench` on viewers of one stream."""
    with Pinned() as weir, Publisher(weir.url(), "--bitrate", CROWD_BITRATE):
        return watch("flv", weir.http(".flv"), count, weir, "--ramp", str(max(2, count // 500)), "--round-ms", "100")


def viewers_row(count, report):
    server, latency = report["server"], report["latency_ms"]
    cells = [f"{count}", f"{server['cpu_percent']:.1f} %", f"{server['cpu_seconds_per_gb']:.2f}", f"{server['rss_mb_max']:.0f} MB"]
    cells += [f"{latency['p50']:.0f} ms, {latency['p99']:.0f} ms", str(sum(report["errors"].values()))]
    return [*cells, report["own"]["bottleneck"] or others(report).strip(" ()")]


def streams(count):
    """Percent of a core, megabytes, and the megabits a second of each stream: less than wanted if publishers are late."""

    def received():
        return sum(row["bytes_in"] for row in json.loads(weir.get("/status"))["streams"])

    with Pinned(count) as weir, Publisher(weir.url(), "--streams", str(count), "--bitrate", STREAM_BITRATE):
        time.sleep(FILL_S)
        before, begun = received(), time.monotonic()
        cpu = cpu_percent(weir)
        mbit = (received() - before) * 8e-6 / (time.monotonic() - begun) / count
        return cpu, rss_mb(weir), mbit


def streams_row(count, cpu, mb, mbit):
    return [f"{count}", f"{cpu:.1f} %", f"{cpu / count:.2f} %", f"{mb:.0f} MB", f"{mb / count:.1f} MB", f"{mbit:.2f}"]


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
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    print(f"load average before: {os.getloadavg()[0]:.1f}")
    of_viewers = [(count, viewers(count)) for count in VIEWERS]
    head = ["HTTP-FLV viewers", "CPU of one core", "CPU-s/GB", "Memory", "Latency p50, p99", "Errors", "Beside it"]
    table(head, [viewers_row(*measured) for measured in of_viewers])
    of_streams = [(count, *streams(count)) for count in STREAMS]
    head = ["Streams", "CPU of one core", "of each", "Memory", "of each", "Mbit/s of each"]
    table(head, [streams_row(*measured) for measured in of_streams])
    print(f"\nload average after: {os.getloadavg()[0]:.1f}")
    cpu_of_viewers = [(count, report["server"]["cpu_percent"]) for count, report in of_viewers if not report["own"]["bottleneck"]]
    memory_of_viewers = [(count, report["server"]["rss_mb_max"]) for count, report in of_viewers]
    # Less than a tick of the kernel's counter has no logarithm.
    tick = 100 / MEASURED_S / os.sysconf("SC_CLK_TCK")
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
