#!/usr/bin/env python3
"""Measures a release build of Weir on this machine and prints the figures as a Markdown table.

    cargo build --release --locked -p weir-server && scripts/measure.py

One argument names another binary. Needs Python 3.11, FFmpeg and OpenSSL, uses loopback only, and takes about eight
minutes. Ten thousand connections need as many descriptors in each of two processes: see ulimit -Hn.
Processor time is that of the server alone; this script and FFmpeg take theirs beside it.
"""

import json
import os
import pathlib
import resource
import select
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
HANDSHAKE_LEN = 1536
KEY = "measure-key-4711"
STARTS = 10
JOINS = 300
STREAM_S = 60
IDLE_S = 30
CONNECTIONS = 10000
# Addresses of loopback that clients connect from: each has fewer ports than there are connections.
CLIENTS = [f"127.0.0.{number}" for number in range(2, 6)]
VIEWERS = 100
VIEWERS_S = 20
# Where crowds are measured, the server has the first core for itself, and publisher and players share the second.
SERVER_CORE, LOAD_CORE = 0, 1
RELOADS = 10000
# The next more players are tried as long as nobody stalls.
PLAYERS = range(1000, 10001, 1000)


class Weir:
    """A server on ports of its own."""

    def __init__(self, binary, mode, tls=False, cdn=False, settings=None):
        self.dir = tempfile.TemporaryDirectory()
        any_port = "127.0.0.1:0"
        environment = {
            "RTMP_ADDR": any_port,
            "HTTPFLV_ADDR": any_port,
            "HLS_ADDR": any_port,
            "WEIR_LOG_FORMAT": "json",
            "WEIR_AUTH_PUBLISH_KEYS": f"push={KEY}",
            # Idle connections stay until they are measured.
            "WEIR_LIMITS_HANDSHAKE_TIMEOUT": "300",
            "WEIR_LIMITS_KEEP_ALIVE_TIMEOUT": "300",
        }
        if tls:
            environment |= {
                "WEIR_TLS_CERT": self.certificate(),
                "WEIR_TLS_HTTPS_ADDR": any_port,
                "WEIR_TLS_RTMPS_ADDR": any_port,
            }
        command = [binary, mode]
        if cdn:
            environment["CDN_ADDR"] = any_port
        environment |= settings or {}
        if cdn or settings is not None:
            command = ["taskset", "-c", str(SERVER_CORE), *command]
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            command,
            cwd=self.dir.name,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.ports = {}
        while len(self.ports) < (4 if tls else 3 if cdn else 2):
            fields = json.loads(self.process.stderr.readline())["fields"]
            if fields["message"] == "listening":
                self.ports.setdefault(fields["protocol"], int(fields["addr"].rsplit(":", 1)[1]))
        threading.Thread(target=lambda: list(self.process.stderr), daemon=True).start()
        while True:
            try:
                self.get("/health")
                break
            except OSError:
                time.sleep(0.001)
        self.start_s = time.monotonic() - self.started

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        self.dir.cleanup()

    def certificate(self):
        """A new one, in one file with its key."""
        path = os.path.join(self.dir.name, "tls.pem")
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        command += ["-subj", "/CN=localhost", "-days", "1", "-keyout", path + ".key", "-out", path]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
        with open(path, "a") as file:
            file.write(pathlib.Path(path + ".key").read_text())
        return path

    def get(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports['http']}{path}", timeout=15) as response:
            return response.read()

    def connect(self, protocol, client="127.0.0.1"):
        peer = ("127.0.0.1", self.ports[protocol])
        return socket.create_connection(peer, timeout=15, source_address=(client, 0))

    def open_flv(self, name):
        viewer = self.connect("http")
        viewer.sendall(f"GET /live/{name}.flv HTTP/1.0\r\n\r\n".encode())
        return viewer

    def rss_mib(self):
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        raise OSError("the server is gone")

    def cpu_s(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def cpu_percent(self, seconds):
        """Of one core, over a while."""
        before, start = self.cpu_s(), time.monotonic()
        time.sleep(seconds)
        return 100 * (self.cpu_s() - before) / (time.monotonic() - start)


def percentile(values, part):
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


def first_key_frame_s(weir):
    """From the connect of a viewer until the last byte of its first key frame."""
    start = time.monotonic()
    with weir.open_flv("demo") as viewer, viewer.makefile("rb") as body:
        while body.readline() != b"\r\n":
            pass
        body.read(13)
        while True:
            kind, *size = struct.unpack(">4B", body.read(4))
            size = size[0] << 16 | size[1] << 8 | size[2]
            body.read(7)
            tag = body.read(size)
            body.read(4)
            if kind == 9 and tag[0] >> 4 == 1 and tag[1] == 1:
                return time.monotonic() - start


class Viewers:
    """One viewer of each protocol. FFmpeg copies RTMP, and a loop asks for HLS as a player does."""

    def __init__(self, weir, name):
        url = f"rtmp://127.0.0.1:{weir.ports['rtmp']}/live/{name}"
        command = ["ffmpeg", "-v", "error", "-i", url, "-c", "copy", "-f", "null", "-"]
        self.rtmp = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        self.flv = weir.open_flv(name)
        self.stopped = threading.Event()
        self.threads = [threading.Thread(target=work, args=(weir, name)) for work in (self.watch_flv, self.watch_hls)]
        for thread in self.threads:
            thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.rtmp.poll() is not None:
            raise OSError("the RTMP viewer ended early")
        self.stopped.set()
        self.rtmp.terminate()
        self.rtmp.wait()
        for thread in self.threads:
            thread.join()
        self.flv.close()

    def watch_flv(self, *_):
        while not self.stopped.is_set():
            if not self.flv.recv(65536):
                raise OSError("the HTTP-FLV viewer was closed")

    def watch_hls(self, weir, name):
        seen = set()
        main = weir.get(f"/live/{name}/index.m3u8").decode()
        renditions = [line for line in main.splitlines() if line and not line.startswith("#")]
        while not self.stopped.wait(1):
            for rendition in renditions:
                path = f"/live/{name}/{rendition}"
                for line in weir.get(path).decode().splitlines():
                    if line and not line.startswith("#") and (rendition, line) not in seen:
                        seen.add((rendition, line))
                        weir.get(path.split("?")[0].rsplit("/", 1)[0] + "/" + line)


def start(binary):
    times = []
    for _ in range(STARTS):
        with Weir(binary, "serve") as weir:
            times.append(weir.start_s)
    return f"{1000 * max(times):.0f} ms, the slowest of {STARTS} starts"


def idle(binary):
    with Weir(binary, "serve") as weir:
        time.sleep(5)
        cpu = weir.cpu_percent(IDLE_S)
        return f"{cpu:.2f} %", f"{weir.rss_mib():.1f} MiB"


def joins(binary):
    with Weir(binary, "dev") as weir:
        time.sleep(5)
        times = [1000 * first_key_frame_s(weir) for _ in range(JOINS)]
    p50, p95 = percentile(times, 0.5), percentile(times, 0.95)
    return f"p50 {p50:.1f} ms, p95 {p95:.1f} ms, max {max(times):.1f} ms of {JOINS} joins"


def one_stream(binary, mode, name):
    with Weir(binary, mode) as weir:
        push = None
        if name == "push":
            url = f"rtmp://127.0.0.1:{weir.ports['rtmp']}/live/push?key={KEY}"
            source = ["-re", "-f", "lavfi", "-i", "testsrc2=s=1280x720:r=30", "-f", "lavfi", "-i", "sine=r=48000"]
            video = ["-c:v", "libx264", "-preset", "ultrafast", "-b:v", "1400k", "-maxrate", "1400k", "-bufsize", "2800k"]
            video += ["-g", "60", "-pix_fmt", "yuv420p"]
            audio = ["-c:a", "aac", "-b:a", "96k"]
            command = ["ffmpeg", "-v", "error", *source, *video, *audio, "-f", "flv", url]
            push = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        while not any(row["name"] == name and row["frames"] for row in json.loads(weir.get("/status"))["streams"]):
            time.sleep(0.1)
        with Viewers(weir, name):
            cpu = weir.cpu_percent(STREAM_S)
            memory = weir.rss_mib()
        if push:
            push.terminate()
            push.wait()
        return f"{memory:.1f} MiB after {STREAM_S} s ({cpu:.1f} % of a core)"


def receive(peer, length):
    data = b""
    while len(data) < length:
        data += peer.recv(length - len(data))
    return data


def handshake(peer):
    peer.sendall(b"\3" + bytes(HANDSHAKE_LEN))
    answer = receive(peer, 1 + 2 * HANDSHAKE_LEN)
    peer.sendall(answer[1 : 1 + HANDSHAKE_LEN])


def publish_s(weir):
    """From the connect of a publisher until the server grants what it asks for."""

    def text(value):
        return b"\2" + struct.pack(">H", len(value)) + value

    def command(stream, *values):
        body = b"".join(values)
        chunks = b"\xc3".join(body[at : at + 128] for at in range(0, len(body), 128))
        return struct.pack(">B3x3sB", 3, len(body).to_bytes(3, "big"), 20) + struct.pack("<I", stream) + chunks

    def number(value):
        return b"\0" + struct.pack(">d", value)

    start = time.monotonic()
    with weir.connect("rtmp") as peer:
        # What is small goes out at once, as encoders have it.
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        handshake(peer)
        app = b"\3\0\3app" + text(b"live") + b"\0\0\t"
        peer.sendall(command(0, text(b"connect"), number(1), app))
        peer.sendall(command(0, text(b"createStream"), number(2), b"\5"))
        name = text(f"push?key={KEY}".encode())
        peer.sendall(command(1, text(b"publish"), number(3), b"\5", name, text(b"live")))
        answer = b""
        while b"NetStream.Publish.Start" not in answer:
            more = peer.recv(4096)
            if not more:
                raise OSError(f"the publisher was refused: {answer}")
            answer += more
        return time.monotonic() - start


def idle_connections(binary, protocol):
    """What each of many costs after its handshake or first request, and how long a publisher takes beside them."""
    with Weir(binary, "serve", tls=protocol in ("https", "rtmps")) as weir:
        anybody = ssl.create_default_context()
        anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
        before = weir.rss_mib()
        held = []
        for at in range(CONNECTIONS):
            peer = weir.connect(protocol, CLIENTS[at % len(CLIENTS)])
            if protocol in ("https", "rtmps"):
                peer = anybody.wrap_socket(peer)
            if protocol in ("rtmp", "rtmps"):
                handshake(peer)
            else:
                peer.sendall(b"GET /health/live HTTP/1.1\r\nHost: weir\r\n\r\n")
                peer.recv(4096)
            held.append(peer)
        grown = 1024 * (weir.rss_mib() - before)
        publish_ms = 1000 * publish_s(weir)
        for peer in held:
            peer.close()
        return f"{grown / CONNECTIONS:.1f} KiB each ({CONNECTIONS} of them); a publish starts in {publish_ms:.1f} ms"


def many_viewers(binary):
    with Weir(binary, "dev") as weir:
        time.sleep(3)
        before = weir.rss_mib()
        viewers = [weir.open_flv("demo") for _ in range(VIEWERS)]
        stopped = threading.Event()

        def watch():
            poll = select.poll()
            by_number = {viewer.fileno(): viewer for viewer in viewers}
            for number in by_number:
                poll.register(number, select.POLLIN)
            while not stopped.is_set():
                for number, _ in poll.poll(100):
                    by_number[number].recv(1 << 20)

        watcher = threading.Thread(target=watch)
        watcher.start()
        time.sleep(2)
        cpu = weir.cpu_percent(VIEWERS_S)
        grown = weir.rss_mib() - before
        stopped.set()
        watcher.join()
        for viewer in viewers:
            viewer.close()
        return f"{cpu:.1f} % of a core, {grown:.1f} MiB"


class Crowd:
    """A server on a core of its own, and a stream without sound, of 600 kbit/s, for players of LL-HLS."""

    def __init__(self, binary):
        self.bench = ["taskset", "-c", str(LOAD_CORE), binary, "bench"]
        self.weir = Weir(binary, "dev", cdn=True)
        url = f"rtmp://127.0.0.1:{self.weir.ports['rtmp']}/live/load"
        self.publisher = subprocess.Popen(
            [*self.bench, "publish", url, "--mute", "--bitrate", "600k"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        # As many segments as players want to hold.
        time.sleep(10)
        self.rss_mib = self.weir.rss_mib()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.publisher.terminate()
        self.publisher.wait()
        self.weir.__exit__()

    def watch(self, viewers, *arguments):
        """Whether nobody stalled, and the report."""
        url = f"http://127.0.0.1:{self.weir.ports['cdn']}/load/video/index.m3u8"
        report = os.path.join(self.weir.dir.name, "report.json")
        command = [*self.bench, "ll-hls", url, "--viewers", str(viewers), "--threads", "1", "--ramp", "10"]
        command += ["--duration", "15", "--pid", str(self.weir.process.pid), "--json", report, *arguments]
        watched = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with open(report) as file:
            return watched.returncode == 0, json.load(file)


def blocked_reloads(binary):
    """How long after the first of many the last of them is released, and what each costs."""
    with Crowd(binary) as crowd:
        _, report = crowd.watch(RELOADS, "--playlists-only")
        release = report["release_ms"]
        kib = 1024 * (report["server"]["rss_mb_max"] * 1e6 / 2**20 - crowd.rss_mib) / RELOADS
        return f"p50 {release['p50']:.0f} ms, p99 {release['p99']:.0f} ms; {kib:.1f} KiB each{others(report)}"


def ll_hls_players(binary):
    """The most players of which none stalled."""
    good = None
    for viewers in PLAYERS:
        with Crowd(binary) as crowd:
            is_good, report = crowd.watch(viewers)
        if not is_good:
            break
        good = viewers, report
    if good is None:
        return f"fewer than {PLAYERS[0]}"
    viewers, report = good
    cpu, latency = report["server"]["cpu_percent"], report["latency_ms"]
    return f"{viewers} at {cpu:.0f} % of it, latency p50 {latency['p50']:.0f} ms, p99 {latency['p99']:.0f} ms{others(report)}"


def others(report):
    return f" (others kept {report['others_cores']:.1f} cores busy)"


def main():
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    binary = os.path.abspath(sys.argv[1]) if len(sys.argv) > 1 else str(target.resolve() / "release/weir")
    rows = [("`/health` answers after start (`weir serve`)", start(binary), "≤ 1 s")]
    cpu, memory = idle(binary)
    rows.append(("Idle processor time (`weir serve`)", cpu, "≤ 1 % of a core"))
    rows.append(("Idle memory (`weir serve`)", memory, "≤ 25 MB"))
    rows.append(("First key frame after join, HTTP-FLV, warm GOP cache", joins(binary), "p95 ≤ 50 ms"))
    rows.append(("One stream, `weir dev`, a viewer of each protocol", one_stream(binary, "dev", "demo"), "≤ 35 MB"))
    rows.append(("One stream, 1.5 Mbit/s push, a viewer of each protocol", one_stream(binary, "serve", "push"), "≤ 35 MB"))
    for protocol in ("rtmp", "http", "rtmps", "https"):
        state = "after its handshake" if protocol.startswith("rtmp") else "kept alive"
        name = f"Idle {protocol.upper()} connection, {state}"
        goal = "≤ 20 KiB" if protocol in ("rtmp", "http") else ""
        rows.append((name, idle_connections(binary, protocol), f"{goal}; ≤ 1 s".lstrip("; ")))
    rows.append((f"{VIEWERS} HTTP-FLV viewers of `demo`", many_viewers(binary), ""))
    rows.append((f"{RELOADS} blocked reloads, three a second each: release after the first", blocked_reloads(binary), "p99 < 500 ms"))
    rows.append(("LL-HLS players of one server core, 333 ms parts, none stalled", ll_hls_players(binary), "≥ 5000"))
    print("| Figure | Measured | Goal |\n|---|---|---|")
    for row in rows:
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
