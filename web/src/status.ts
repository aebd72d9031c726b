// The server's `GET /status` as this page reads it: which streams there are and how they do.
// Owns the polling and the shape of the answer. Fields it does not know are ignored, missing ones get a neutral value.

import type { ServerClock } from "./server_clock";

/** One elementary stream: a video or an audio track. */
export interface Track {
  kind: string;
  /** For people: "H.264". */
  codec: string;
  /** For machines, RFC 6381: "avc1.64001F". */
  codecs: string | null;
  width: number | null;
  height: number | null;
  /** Frames per second as the stream declares it. */
  frame_rate: number | null;
  sample_rate: number | null;
  channels: number | null;
}

/** One stream of the server. */
export interface Stream {
  name: string;
  /** "live", or why not: "waiting" while the publisher is away. */
  state: string;
  /** Words of the server about the state, if it has any. */
  reason: string | null;
  uptime_seconds: number;
  bitrate_bps: number;
  viewers: number;
  /** How far back it can be watched. */
  rewind_seconds: number;
  tracks: Track[];
}

/** What is known about the server: `streams` is null until the first answer, and keeps the last answer after that. */
export interface Status {
  reachable: boolean;
  streams: Stream[] | null;
}

/**
 * Not a whole number of seconds: the clock estimate reads the `Date` header, which counts whole seconds, and learns
 * most when successive polls meet the server's second at different phases.
 */
const POLL_INTERVAL_MS = 1900;

/** A server that takes longer than this to answer counts as unreachable. */
const POLL_TIMEOUT_MS = 5000;

/** Polls for ever and calls `changed` with every answer and every failure; feeds `clock` on the way. */
export function pollStatus(clock: ServerClock, changed: (status: Status) => void): void {
  let streams: Stream[] | null = null;
  const poll = async () => {
    try {
      streams = await fetchStreams(clock);
      changed({ reachable: true, streams });
    } catch {
      changed({ reachable: false, streams });
    }
    setTimeout(poll, POLL_INTERVAL_MS);
  };
  void poll();
}

async function fetchStreams(clock: ServerClock): Promise<Stream[]> {
  const abort = new AbortController();
  const timeout = setTimeout(() => abort.abort(), POLL_TIMEOUT_MS);
  try {
    const sentMs = Date.now();
    const response = await fetch("/status", { cache: "no-store", signal: abort.signal });
    if (!response.ok) throw new Error(`HTTP ${response.status}`);
    clock.observe(sentMs, Date.now(), response.headers.get("Date"));
    return parseStreams(await response.json());
  } finally {
    clearTimeout(timeout);
  }
}

function parseStreams(body: unknown): Stream[] {
  return objects(field(body, "streams"))
    .map((stream) => ({
      name: text(field(stream, "name")) ?? "",
      state: text(field(stream, "state")) ?? "unknown",
      reason: text(field(stream, "reason")),
      uptime_seconds: number(field(stream, "uptime_seconds")) ?? 0,
      bitrate_bps: number(field(stream, "bitrate_bps")) ?? 0,
      viewers: number(field(stream, "viewers")) ?? 0,
      rewind_seconds: number(field(stream, "rewind_seconds")) ?? 0,
      tracks: objects(field(stream, "tracks")).map(parseTrack),
    }))
    .filter((stream) => stream.name !== "")
    .sort((a, b) => a.name.localeCompare(b.name));
}

function parseTrack(track: unknown): Track {
  return {
    kind: text(field(track, "kind")) ?? "",
    codec: text(field(track, "codec")) ?? "",
    codecs: text(field(track, "codecs")),
    width: number(field(track, "width")),
    height: number(field(track, "height")),
    frame_rate: number(field(track, "frame_rate")),
    sample_rate: number(field(track, "sample_rate")),
    channels: number(field(track, "channels")),
  };
}

function field(value: unknown, name: string): unknown {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>)[name] : undefined;
}

function objects(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}

function text(value: unknown): string | null {
  return typeof value === "string" ? value : null;
}

function number(value: unknown): number | null {
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}
