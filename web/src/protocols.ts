// The protocols this page can play: one row per protocol, one file per player in `protocols/`.
// A new protocol is a new row and a new file with the same `attach`.

/** How far the picture is behind. */
export interface Latency {
  ms: number;
  /** "measured": against the wall time at which the server received the picture. "buffer": only the media buffered ahead. */
  kind: "measured" | "buffer";
}

/** What a player tells its supervisor. After either call it plays no more, and waits to be detached. */
export interface AttachmentEvents {
  /** The player met an error that it cannot recover from. */
  failed(reason: string): void;
  /** The server ended the connection in good order. */
  closed(): void;
}

/** A player at work on a video element. */
export interface Attachment {
  /** Null while nothing is known. `serverNowMs` is the server's wall clock. */
  latency(serverNowMs: number): Latency | null;
  /** Where to go on when nothing is buffered at or behind the picture; null if the player gets there by itself. */
  resumePoint?(): number | null;
  /** Ends all requests and frees the video element. Called once. */
  detach(): void;
}

/** Starts to load `url` into `video`. Playing, pausing and recovering are the supervisor's. */
export type Attach = (video: HTMLVideoElement, url: string, events: AttachmentEvents) => Attachment;

/** The code that plays a protocol, loaded when it is wanted. */
export interface Player {
  attach: Attach;
  supported(video: HTMLVideoElement): boolean;
}

/** One row of the table. */
export interface Protocol {
  /** In the page's address and in the server's counters. */
  id: string;
  label: string;
  /** What to expect, in a few words. */
  hint: string;
  /** Where the stream is on this server; `ws:` before it asks for a WebSocket. */
  path(stream: string): string;
  /**
   * How long the player may go without new media while the server calls the stream live, before it is started anew.
   * More than one segment for protocols that deliver segments.
   */
  patienceMs: number;
  load(): Promise<Player>;
  /** How to watch from earlier on; missing where that is not possible. */
  rewind?: Rewind;
}

/** A stream from some seconds before now. */
interface Rewind {
  path(stream: string, seconds: number): string;
  load(): Promise<Player>;
}

const HLS_REWIND: Rewind = {
  path: (stream, seconds) => `${hlsPath(stream)}?start=-${Math.round(seconds)}`,
  load: async () => (await import("./protocols/hls")).rewound,
};

function hlsPath(stream: string): string {
  return `/live/${encodeURIComponent(stream)}/index.m3u8`;
}

export const PROTOCOLS: readonly Protocol[] = [
  {
    id: "ll-hls",
    label: "LL-HLS",
    hint: "low-latency HLS, 1–2 s behind",
    path: hlsPath,
    patienceMs: 20_000,
    load: async () => (await import("./protocols/hls")).lowLatency,
    rewind: HLS_REWIND,
  },
  {
    id: "hls",
    label: "HLS",
    hint: "whole segments for an unsteady network, 4–6 s behind",
    path: hlsPath,
    patienceMs: 20_000,
    load: async () => (await import("./protocols/hls")).classic,
    rewind: HLS_REWIND,
  },
  {
    id: "dash",
    label: "DASH",
    hint: "low-latency DASH, 2–3 s behind",
    path: (stream) => `/live/${encodeURIComponent(stream)}/manifest.mpd`,
    patienceMs: 20_000,
    load: () => import("./protocols/dash"),
  },
  {
    id: "http-flv",
    label: "HTTP-FLV",
    hint: "about 1 s behind",
    path: (stream) => `/live/${encodeURIComponent(stream)}.flv`,
    patienceMs: 8_000,
    load: () => import("./protocols/flv"),
  },
  {
    id: "ws-flv",
    label: "WS-FLV",
    hint: "about 1 s behind, where endless answers are cut",
    path: (stream) => `ws:/live/${encodeURIComponent(stream)}.flv`,
    patienceMs: 8_000,
    load: () => import("./protocols/flv"),
  },
];

/** The protocol of that id; the first of the table if there is none. */
export function protocolById(id: string | null): Protocol {
  const [first] = PROTOCOLS as [Protocol];
  return PROTOCOLS.find((protocol) => protocol.id === id) ?? first;
}
