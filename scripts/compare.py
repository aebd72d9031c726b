#!/usr/bin/env python3
"""Compares a release build of Weir with a bare write loop and with nginx on this machine, and prints a Markdown table.

    cargo build --release --locked -p weir-server && scripts/compare.py [ROW...]

Without names of rows it takes all, some fifty minutes; standard error tells how far it is. Every server has the first core
for itself, publishers and players share the second; what is compared takes turns, and all figures are medians over the
rounds, five unless ROUNDS says otherwise. Needs nginx with its RTMP module and 20 000 descriptors, uses loopback only.
A row says when other processes kept a core busy, and when `weir bench` was itself the limit: then it is not valid.
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

ROUNDS = int(os.environ.get("ROUNDS", "5"))
RAMP_S = 5
MEASURED_S = 8
# Until players find as many segments as they want to hold.
SETTLE_S = 12
# Until the live window of HLS is full, and with it the memory of a stream.
FILL_S = 50
FLV_BITRATE = "2.65M"
CROWD_BITRATE = "600k"
# Thousands of viewers of FLV that each wake for every write are more than one core can be; one in ten still does.
FLV_ROUND = ("--round-ms", "50")
CROWD = ("--ramp", "20", "--round-ms", "200")
STREAMS = 50
STREAM_BITRATE = "1M"
KEY = "compare-key-"

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
        seen = json.load(file)
    if not seen["totals"]["measured_bytes"]:
        sys.exit(f"compare.py: nothing came of {' '.join(command)}: {seen['errors']}")
    return seen


def watch(kind, url, viewers, server, *arguments):
    pids = [argument for pid in server.pids() for argument in ("--pid", str(pid))]
    return report([*BENCH, kind, url, "--viewers", str(viewers), *pids, *arguments])


def floor(viewers, cadence_ms):
    """It places its threads by itself: the writer on the first core."""
    command = [BINARY, "bench", "floor", "--viewers", str(viewers), "--bitrate", FLV_BITRATE]
    return report([*command, "--cadence-ms", str(cadence_ms), *FLV_ROUND])


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
        self.files = os.path.join(self.dir.name, "hls")
        conf = f"""
            load_module /usr/lib/nginx/modules/ngx_rtmp_module.so;
            daemon off; user root; pid nginx.pid; error_log stderr crit; worker_rlimit_nofile 20000;
            events {{ worker_connections 15000; }}
            http {{
                access_log off; sendfile on; tcp_nopush on; types {{ video/mp2t ts; application/vnd.apple.mpegurl m3u8; }}
                server {{ listen 127.0.0.1:{self.http}; root .; }}
            }}
            rtmp {{ server {{
                listen 127.0.0.1:{self.rtmp}; chunk_size 4096;
                application live {{ live on; }}
                application hls {{ live on; hls on; hls_path {self.files}; hls_fragment 2s; hls_playlist_length 20s; }}
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

    def pids(self):
        """Its one worker, and the process that removes old segments."""
        return pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()

    def url(self, application):
        return f"rtmp://127.0.0.1:{self.rtmp}/{application}/load"

    def kept_mb(self):
        """Its files, which are in the page cache."""
        files = pathlib.Path(self.files).iterdir()
        return sum(file.stat().st_blocks for file in files) * 512 / 1e6


class Pinned(Weir):
    """Weir on the first core, with as many streams as are published: `load`, or `load0` and on."""

    def __init__(self, streams=1, **settings):
        names = ["load"] if streams == 1 else [f"load{number}" for number in range(streams)]
        keys = ",".join(f"{name}={KEY}{name}" for name in names)
        settings = {"WEIR_LOG_LEVEL": "info", "MAX_CONCURRENT_STREAMS": str(streams), **settings}
        super().__init__(BINARY, "serve", settings={**settings, "WEIR_AUTH_PUBLISH_KEYS": keys})
        self.name = "load" if streams == 1 else "load{n}"

    def pids(self):
        return [self.process.pid]

    def url(self):
        return f"rtmp://127.0.0.1:{self.ports['rtmp']}/live/{self.name}?key={KEY}{self.name}"

    def http(self, suffix):
        return f"http://127.0.0.1:{self.ports['http']}/live/{self.name}{suffix}"

    def kept_mb(self):
        """What it holds in files of memory."""
        held = 0
        for link in pathlib.Path(f"/proc/{self.process.pid}/fd").iterdir():
            try:
                if os.readlink(link).startswith("/memfd:"):
                    held += link.stat().st_blocks * 512
            except OSError:
                # Closed meanwhile.
                continue
        return held / 1e6


def middle(series, *path):
    """The median over reports of the figure at `path`."""

    def figure(seen):
        for name in path:
            seen = seen[name]
        return seen

    return statistics.median(figure(seen) for seen in series)


def percentiles(series, name):
    figures = [middle(series, name, part) for part in ("p50", "p99")]
    p50, p99 = (f"{figure:.0f}" if figure >= 10 else f"{figure:.1f}" for figure in figures)
    return f"p50 {p50} ms, p99 {p99} ms"


def remarks(ours, *others_series):
    """What went wrong for viewers of ours, and what makes the figures doubtful."""
    faults = sum(seen["totals"]["stalls"] + sum(seen["errors"].values()) for seen in ours)
    all_seen = [*ours, *(seen for series in others_series for seen in series)]
    limited = sum(seen["own"]["bottleneck"] is not None for seen in all_seen)
    limit = f"; **not valid**: the load was the limit in {limited} of {len(all_seen)} runs" if limited else ""
    return f"{faults} stalls and errors{limit}{others(max(all_seen, key=lambda seen: seen['others_cores']))}"


def against(ours, theirs):
    """The ratio of two series of reports, pairwise, and their medians."""
    path = ("server", "cpu_seconds_per_gb")
    ratio = statistics.median(a["server"][path[1]] / b["server"][path[1]] for a, b in zip(ours, theirs))
    return f"{middle(ours, *path):.2f} against {middle(theirs, *path):.2f} CPU-s/GB: **{ratio:.2f}**"


def flv(rounds, viewers, cadence_ms):
    """HTTP-FLV against the bare loop that writes the same bytes."""
    with Pinned(WEIR_LIMITS_WRITE_COALESCE_MS=str(cadence_ms)) as weir, Publisher(weir.url(), "--bitrate", FLV_BITRATE):
        ours, floors = [], []
        for _ in rounds:
            ours.append(watch("flv", weir.http(".flv"), viewers, weir, *FLV_ROUND))
            floors.append(floor(viewers, cadence_ms))
    return f"{against(ours, floors)}; latency {percentiles(ours, 'latency_ms')}; {remarks(ours, floors)}"


def rtmp(rounds, viewers, cadence_ms):
    """RTMP players against nginx-rtmp, which sends every frame at once."""
    with Pinned(WEIR_LIMITS_WRITE_COALESCE_MS=str(cadence_ms)) as weir, Nginx() as nginx:
        urls = [weir.url(), nginx.url("live")]
        with Publisher(urls[0], "--bitrate", "1.2M"), Publisher(urls[1], "--bitrate", "1.2M"):
            turns = list(zip(urls, (weir, nginx)))
            seen = [[watch("rtmp", url, viewers, server) for url, server in turns] for _ in rounds]
    ours, theirs = zip(*seen)
    latency = f"latency {percentiles(ours, 'latency_ms')} against {percentiles(theirs, 'latency_ms')}"
    return f"{against(ours, theirs)}; {latency}; {remarks(ours, theirs)}"


def hls(rounds, viewers):
    """HLS players of MPEG-TS segments against nginx, which has them in its page cache."""
    with Pinned() as weir, Nginx() as nginx:
        urls = [weir.http("/playlist.m3u8"), f"http://127.0.0.1:{nginx.http}/hls/load.m3u8"]
        bitrate = ("--bitrate", FLV_BITRATE)
        with Publisher(weir.url(), *bitrate), Publisher(nginx.url("hls"), *bitrate):
            turns = list(zip(urls, (weir, nginx)))
            seen = [[watch("hls", url, viewers, server) for url, server in turns] for _ in rounds]
    ours, theirs = zip(*seen)
    first, whole = ([middle(series, name, "p99") for series in (ours, theirs)] for name in ("answer_ms", "fetch_ms"))
    gets = f"GET p99 to the first byte {first[0]:.1f} against {first[1]:.1f} ms, whole {whole[0]:.1f} against {whole[1]:.1f} ms"
    return f"{against(ours, theirs)}; {gets}; {remarks(ours, theirs)}"


def share(series):
    return f"{middle(series, 'server', 'cpu_percent'):.0f} % of the core, {middle(series, 'server', 'rss_mb_max'):.0f} MB"


def ll_hls(rounds, viewers):
    """Players of parts that wait for each, without sound. All come from one address, so that may wait as often as it likes."""
    with Pinned(WEIR_LIMITS_BLOCKED_REQUESTS_PER_IP="0") as weir:
        with Publisher(weir.url(), "--mute", "--bitrate", CROWD_BITRATE):
            arguments = (weir.http("/video/index.m3u8"), viewers, weir, "--threads", "1", "--ramp", "10")
            seen = [watch("ll-hls", *arguments) for _ in rounds]
    played, missed = (middle(seen, "totals", name) for name in ("viewers_played", "skipped_segments"))
    times = f"latency {percentiles(seen, 'latency_ms')}, GET {percentiles(seen, 'fetch_ms')}"
    return f"{played:.0f} played, {missed:.0f} segments missed; {times}; {share(seen)}; {remarks(seen)}"


def crowd(rounds, viewers, cadence_ms=None):
    """HTTP-FLV viewers of one core, at the default cadence or another."""
    settings = {} if cadence_ms is None else {"WEIR_LIMITS_WRITE_COALESCE_MS": str(cadence_ms)}
    with Pinned(**settings) as weir, Publisher(weir.url(), "--bitrate", CROWD_BITRATE):
        seen = [watch("flv", weir.http(".flv"), viewers, weir, *CROWD) for _ in rounds]
    served, skipped = (middle(seen, "totals", name) for name in ("viewers_served", "skipped_pictures"))
    return (
        f"{served:.0f} served, {skipped:.0f} pictures left out; lateness {percentiles(seen, 'lateness_ms')}; "
        f"{share(seen)}; {remarks(seen)}"
    )


def streams(rounds):
    """Many streams of ten viewers, at the default cadence."""
    many = ("--streams", str(STREAMS))
    with Pinned(STREAMS) as weir, Publisher(weir.url(), *many, "--bitrate", STREAM_BITRATE):
        seen = [watch("flv", weir.http(".flv"), 10 * STREAMS, weir, *many) for _ in rounds]
    return f"{middle(seen, 'server', 'cpu_seconds_per_gb'):.2f} CPU-s/GB; {remarks(seen)}"


def cpu_percent(server):
    """Of one core, over a while."""

    def cpu_s():
        stats = [pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split() for pid in server.pids()]
        return sum(int(fields[11]) + int(fields[12]) for fields in stats) / os.sysconf("SC_CLK_TCK")

    before, start = cpu_s(), time.monotonic()
    time.sleep(MEASURED_S)
    return 100 * (cpu_s() - before) / (time.monotonic() - start)


def rss_mb(server):
    statuses = [pathlib.Path(f"/proc/{pid}/status").read_text() for pid in server.pids()]
    lines = [line.split() for status in statuses for line in status.splitlines()]
    return sum(int(line[1]) for line in lines if line and line[0] == "VmRSS:") * 1024 / 1e6


def publishers(rounds):
    """Many publishers without a viewer against nginx-rtmp with HLS on. Memory is what the process has, and what it keeps
    in files of memory or in the page cache: both are memory."""
    many = ("--streams", str(STREAMS), "--bitrate", STREAM_BITRATE)
    with Pinned(STREAMS) as weir, Nginx() as nginx:
        servers = (weir, nginx)
        with Publisher(weir.url(), *many), Publisher(nginx.url("hls") + "{n}", *many):
            time.sleep(FILL_S)
            seen = [[cpu_percent(server) for server in servers] for _ in rounds]
            memory = [(rss_mb(server), server.kept_mb()) for server in servers]
    ours, theirs = (statistics.median(series) for series in zip(*seen))
    ratio = statistics.median(a / b for a, b in seen)
    kept = [f"{rss:.0f} MB and {files:.0f} MB in files" for rss, files in memory]
    return f"{ours:.1f} % against {theirs:.1f} % of the core: **{ratio:.2f}**; {kept[0]} against {kept[1]}"


def cadence(ms):
    return f"{ms} ms" if ms else "per frame"


ROWS = {
    **{
        f"flv-{viewers}-{ms}": (
            f"HTTP-FLV, {viewers} viewers × 2.65 Mbit/s, {cadence(ms)}, against the bare loop",
            lambda rounds, viewers=viewers, ms=ms: flv(rounds, viewers, ms),
            ("≤ 1.5" if ms else "≤ 1.3") + ("; p50 ≤ 20 ms, p99 ≤ 100 ms" if viewers == 1000 and not ms else ""),
        )
        for viewers in (1000, 2000)
        for ms in (0, 100, 300)
    },
    **{
        f"rtmp-{viewers}" + (f"-{ms}" if ms else ""): (
            f"RTMP, {viewers} players × 1.2 Mbit/s, {cadence(ms)}, against nginx-rtmp",
            lambda rounds, viewers=viewers, ms=ms: rtmp(rounds, viewers, ms),
            "" if ms else "≤ 0.6",
        )
        for viewers in (500, 1000)
        for ms in (0, 20)
    },
    **{
        f"hls-{viewers}": (
            f"HLS, {viewers} players × 2.65 Mbit/s, against nginx from page cache",
            lambda rounds, viewers=viewers: hls(rounds, viewers),
            "≤ 1.0; ≤ 1 ms",
        )
        for viewers in (500, 1000)
    },
    **{
        f"ll-hls-{viewers}": (
            f"LL-HLS, {viewers} players × 600 kbit/s of pictures in parts of 333 ms, one core",
            lambda rounds, viewers=viewers: ll_hls(rounds, viewers),
            "none stalled",
        )
        for viewers in (4000, 5000)
    },
    "crowd-1000": ("1000 HTTP-FLV viewers × 600 kbit/s", lambda rounds: crowd(rounds, 1000), "≤ 40 MB"),
    "crowd-10000": (
        "10 000 HTTP-FLV viewers × 600 kbit/s on one core",
        lambda rounds: crowd(rounds, 10000),
        "none stalled; p99 ≤ 500 ms; ≤ 250 MB",
    ),
    "crowd-10000-100": (
        "10 000 HTTP-FLV viewers × 600 kbit/s on one core, 100 ms",
        lambda rounds: crowd(rounds, 10000, 100),
        "none stalled; p99 ≤ 500 ms; ≤ 250 MB",
    ),
    "streams": (f"{STREAMS} streams × 10 HTTP-FLV viewers × 1 Mbit/s", streams, "≤ 4"),
    "publishers": (f"{STREAMS} publishers × 1 Mbit/s, no viewer, against nginx-rtmp with HLS", publishers, "≤ 1.0; ≤ 60 MB"),
}


def rounds_of(name):
    """The numbers of the rounds, each told when it begins."""
    for number in range(1, ROUNDS + 1):
        print(f"{name}: round {number} of {ROUNDS}", file=sys.stderr, flush=True)
        yield number


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
        print(f"| {title} | {measure(rounds_of(name))} | {goal} |", flush=True)


if __name__ == "__main__":
    main()
