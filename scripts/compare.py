#!/usr/bin/env python3
"""Compares a release build of Weir with a bare write loop and with nginx on this machine, and prints a Markdown table.

    cargo build --release --locked -p weir-server && scripts/compare.py [ROW...]

Without names of rows it takes all, some forty minutes. Every server has the first core for itself, publishers and players
share the second; what is compared takes turns, and the figures are medians over the rounds. Needs nginx with its RTMP
module and 20 000 descriptors, uses loopback only. A row says when other processes kept a core busy.
"""

import json
import os
import pathlib
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time

from measure import LOAD_CORE, ROOT, SERVER_CORE, Weir, others

ROUNDS = 5
RAMP_S = 5
MEASURED_S = 8
# Until players find as many segments as they want to hold.
SETTLE_S = 12
FLV_BITRATE = "2.65M"

target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
BINARY = str(target.resolve() / "release/weir")
BENCH = ["taskset", "-c", str(LOAD_CORE), BINARY, "bench"]
SILENT = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def report(command):
    """The report of a `weir bench` command, which is measured for a while."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        if "--ramp" not in command:
            command = [*command, "--ramp", str(RAMP_S)]
        subprocess.run([*command, "--duration", str(MEASURED_S), "--json", file.name], **SILENT)
        return json.load(file)


def watch(kind, url, viewers, pid, *arguments):
    return report([*BENCH, kind, url, "--viewers", str(viewers), "--pid", str(pid), *arguments])


def floor(viewers, cadence_ms):
    """It places its threads by itself: the writer on the first core."""
    command = [BINARY, "bench", "floor", "--viewers", str(viewers), "--bitrate", FLV_BITRATE]
    return report([*command, "--cadence-ms", str(cadence_ms)])


class Publisher:
    """Streams on their way to a server."""

    def __init__(self, url, *arguments):
        self.process = subprocess.Popen([*BENCH, "publish", url, *arguments], **SILENT)

    def __enter__(self):
        time.sleep(SETTLE_S)
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()


class Nginx:
    """nginx with its RTMP module, and HLS files behind HTTP."""

    def __init__(self):
        self.dir = tempfile.TemporaryDirectory()
        os.chmod(self.dir.name, 0o755)
        self.rtmp, self.http = free_port(), free_port()
        conf = f"""
            load_module /usr/lib/nginx/modules/ngx_rtmp_module.so;
            daemon off; master_process off; pid nginx.pid; error_log stderr crit; worker_rlimit_nofile 20000;
            events {{ worker_connections 15000; }}
            http {{
                access_log off; sendfile on; tcp_nopush on; types {{ video/mp2t ts; application/vnd.apple.mpegurl m3u8; }}
                server {{ listen 127.0.0.1:{self.http}; root .; }}
            }}
            rtmp {{ server {{
                listen 127.0.0.1:{self.rtmp}; chunk_size 4096;
                application live {{ live on; }}
                application hls {{ live on; hls on; hls_path hls; hls_fragment 2s; hls_playlist_length 20s; }}
            }} }}"""
        path = os.path.join(self.dir.name, "nginx.conf")
        pathlib.Path(path).write_text(conf)
        command = ["taskset", "-c", str(SERVER_CORE), "nginx", "-p", self.dir.name, "-c", path]
        self.process = subprocess.Popen(command, **SILENT)
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.rtmp)).close()
                break
            except OSError:
                time.sleep(0.05)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        self.dir.cleanup()


def pinned(**settings):
    return Weir(BINARY, "dev", settings={"WEIR_LOG_LEVEL": "info", **settings})


def per_gb(seen):
    return seen["server"]["cpu_seconds_per_gb"]


def against(ours, theirs):
    """The ratio of two series of reports, pairwise, and their medians."""
    costs = [[per_gb(seen) for seen in series] for series in (ours, theirs)]
    ratio = statistics.median(a / b for a, b in zip(*costs))
    medians = [statistics.median(series) for series in costs]
    worst = max((*ours, *theirs), key=lambda seen: seen["others_cores"])
    faults = sum(seen["totals"]["stalls"] + sum(seen["errors"].values()) for seen in ours)
    return f"{medians[0]:.2f} against {medians[1]:.2f} CPU-s/GB: **{ratio:.2f}**; {faults} stalls and errors{others(worst)}"


def flv(viewers, cadence_ms):
    """HTTP-FLV against the bare loop that writes the same bytes."""
    with pinned(WEIR_LIMITS_WRITE_COALESCE_MS=str(cadence_ms)) as weir:
        with Publisher(f"rtmp://127.0.0.1:{weir.ports['rtmp']}/live/load", "--bitrate", FLV_BITRATE):
            url = f"http://127.0.0.1:{weir.ports['http']}/live/load.flv"
            ours, floors = [], []
            for _ in range(ROUNDS):
                ours.append(watch("flv", url, viewers, weir.process.pid))
                floors.append(floor(viewers, cadence_ms))
    latency = ours[-1]["latency_ms"]
    return f"{against(ours, floors)}; latency p50 {latency['p50']:.0f} ms, p99 {latency['p99']:.0f} ms"


def rtmp(viewers):
    """RTMP players against nginx-rtmp, every frame at once."""
    with pinned(WEIR_LIMITS_WRITE_COALESCE_MS="0") as weir, Nginx() as nginx:
        urls = [f"rtmp://127.0.0.1:{port}/live/load" for port in (weir.ports["rtmp"], nginx.rtmp)]
        with Publisher(urls[0], "--bitrate", "1.2M"), Publisher(urls[1], "--bitrate", "1.2M"):
            pids = [weir.process.pid, nginx.process.pid]
            rounds = [[watch("rtmp", url, viewers, pid) for url, pid in zip(urls, pids)] for _ in range(ROUNDS)]
    return against(*zip(*rounds))


def hls(viewers):
    """HLS players of MPEG-TS segments against nginx, which has them in its page cache."""
    with pinned() as weir, Nginx() as nginx:
        sources = [f"rtmp://127.0.0.1:{weir.ports['rtmp']}/live/load", f"rtmp://127.0.0.1:{nginx.rtmp}/hls/load"]
        urls = [
            f"http://127.0.0.1:{weir.ports['http']}/live/load/playlist.m3u8",
            f"http://127.0.0.1:{nginx.http}/hls/load.m3u8",
        ]
        with Publisher(sources[0], "--bitrate", FLV_BITRATE), Publisher(sources[1], "--bitrate", FLV_BITRATE):
            pids = [weir.process.pid, nginx.process.pid]
            rounds = [[watch("hls", url, viewers, pid) for url, pid in zip(urls, pids)] for _ in range(ROUNDS)]
    ours, theirs = zip(*rounds)
    fetch = ours[-1]["fetch_ms"]
    return f"{against(ours, theirs)}; GET p99 {fetch['p99']:.1f} ms"


def many_viewers(viewers, bitrate):
    """A crowd of HTTP-FLV viewers of one core, at the default cadence."""
    with pinned() as weir:
        url = f"rtmp://127.0.0.1:{weir.ports['rtmp']}/live/load"
        with Publisher(url, "--bitrate", bitrate):
            url = f"http://127.0.0.1:{weir.ports['http']}/live/load.flv"
            seen = watch("flv", url, viewers, weir.process.pid, "--ramp", "20")
    totals, server = seen["totals"], seen["server"]
    return (
        f"{totals['viewers_served']} served, {totals['stalls']} stalls, {sum(seen['errors'].values())} errors, "
        f"lateness p99 {seen['lateness_ms']['p99']:.0f} ms, {server['cpu_percent']:.0f} % of the core, "
        f"{server['rss_mb_max']:.0f} MB{others(seen)}"
    )


def many_streams():
    """Fifty streams of ten viewers."""
    with pinned() as weir:
        url = f"rtmp://127.0.0.1:{weir.ports['rtmp']}/live/load{{n}}"
        with Publisher(url, "--streams", "49", "--bitrate", "1M"):
            url = f"http://127.0.0.1:{weir.ports['http']}/live/load{{n}}.flv"
            seen = watch("flv", url, 490, weir.process.pid, "--streams", "49")
    return f"{per_gb(seen):.2f} CPU-s/GB, {seen['totals']['stalls']} stalls{others(seen)}"


def publishers():
    """Fifty publishers without a viewer against nginx-rtmp with HLS on."""

    def cost(pid):
        def cpu_s():
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

        before, start = cpu_s(), time.monotonic()
        time.sleep(MEASURED_S)
        percent = 100 * (cpu_s() - before) / (time.monotonic() - start)
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        rss = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))
        return percent, rss / 1000

    with pinned() as weir, Nginx() as nginx:
        streams = ("--streams", "49", "--bitrate", "1M")
        ours = Publisher(f"rtmp://127.0.0.1:{weir.ports['rtmp']}/live/load{{n}}", *streams)
        theirs = Publisher(f"rtmp://127.0.0.1:{nginx.rtmp}/hls/load{{n}}", *streams)
        with ours, theirs:
            time.sleep(SETTLE_S)
            rounds = [(cost(weir.process.pid), cost(nginx.process.pid)) for _ in range(ROUNDS)]
    percents = [statistics.median(pair[at][0] for pair in rounds) for at in (0, 1)]
    memory = [rounds[-1][at][1] for at in (0, 1)]
    ratio = statistics.median(a[0] / b[0] for a, b in rounds)
    return (
        f"{percents[0]:.1f} % against {percents[1]:.1f} % of the core: **{ratio:.2f}**; "
        f"{memory[0]:.0f} against {memory[1]:.0f} MB"
    )


ROWS = {
    **{
        f"flv-{viewers}-{cadence}": (
            f"HTTP-FLV, {viewers} viewers × 2.65 Mbit/s, {f'{cadence} ms' if cadence else 'per frame'}, against the bare loop",
            lambda viewers=viewers, cadence=cadence: flv(viewers, cadence),
            "≤ 1.5" if cadence else "≤ 1.3",
        )
        for viewers in (1000, 2000)
        for cadence in (0, 100, 300)
    },
    **{
        f"rtmp-{viewers}": (
            f"RTMP, {viewers} players × 1.2 Mbit/s, per frame, against nginx-rtmp",
            lambda viewers=viewers: rtmp(viewers),
            "≤ 0.6",
        )
        for viewers in (500, 1000)
    },
    **{
        f"hls-{viewers}": (
            f"HLS, {viewers} players × 2.65 Mbit/s, against nginx from page cache",
            lambda viewers=viewers: hls(viewers),
            "≤ 1.0; ≤ 1 ms",
        )
        for viewers in (500, 1000)
    },
    "crowd-1000": ("1000 HTTP-FLV viewers × 600 kbit/s", lambda: many_viewers(1000, "600k"), "≤ 40 MB"),
    "crowd-9500": ("9500 HTTP-FLV viewers × 600 kbit/s on one core", lambda: many_viewers(9500, "600k"), "≤ 500 ms; ≤ 250 MB"),
    "streams": ("49 streams × 10 HTTP-FLV viewers × 1 Mbit/s", many_streams, "≤ 4"),
    "publishers": ("49 publishers × 1 Mbit/s, no viewer, against nginx-rtmp with HLS", publishers, "≤ 1.0; ≤ 60 MB"),
}


def main():
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    wanted = sys.argv[1:] or list(ROWS)
    unknown = [name for name in wanted if name not in ROWS]
    if unknown:
        sys.exit(f"compare.py: no row {unknown[0]!r}; there are {', '.join(ROWS)}")
    print("| What | Measured | Goal |\n|---|---|---|")
    for name in wanted:
        title, measure, goal = ROWS[name]
        print(f"| {title} | {measure()} | {goal} |", flush=True)


if __name__ == "__main__":
    main()
