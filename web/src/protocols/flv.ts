// HTTP-FLV and WS-FLV: FLV tags without end, as one answer or as WebSocket messages, played by mpegts.js.
// Latency comes from the script tags `onAnchor` {timestamp_ms, wall_ms}, by which the server says at which wall time it
// received the media of an FLV timestamp: one at the head of the answer, another after each gap in the publisher's time.

import mpegts from "mpegts.js";
import type { Attachment, AttachmentEvents, Latency } from "../protocols";

/** Anchors older than the buffer are of no use; a gap every few seconds would be needed to reach this. */
const ANCHORS_MAX = 16;

// Its errors reach the supervisor as events; on the console of every outage they would only be noise.
mpegts.LoggingControl.enableAll = false;

/** Whether this browser can play FLV. */
export function supported(): boolean {
  return mpegts.getFeatureList().mseLivePlayback;
}

/** Plays the FLV stream at `url`. `anchor=1` asks for the script tags that latency is measured with. */
export function attach(video: HTMLVideoElement, url: string, events: AttachmentEvents): Attachment {
  const anchors = new Anchors();
  const player = mpegts.createPlayer(
    { type: "flv", isLive: true, url: absolute(`${url}?anchor=1`) },
    {
      // Each byte goes to the demuxer as it arrives: the stash would add its own size to the latency.
      enableStashBuffer: false,
      // A live answer cannot be resumed where it was left, so it is never left while it plays.
      lazyLoad: false,
      // A background tab must open its connection, too.
      deferLoadAfterSourceOpen: false,
      autoCleanupSourceBuffer: true,
      autoCleanupMaxBackwardDuration: 30,
      autoCleanupMinBackwardDuration: 10,
      // Small excess is played off by a slightly faster rate, which nobody notices...
      liveSync: true,
      liveSyncMaxLatency: 1.0,
      liveSyncTargetLatency: 0.6,
      liveSyncPlaybackRate: 1.1,
      // ...and only a large one, after a background tab or a network hole, by a jump. Above the usual two seconds of GOP
      // cache that the server sends at the start.
      liveBufferLatencyChasing: true,
      liveBufferLatencyMaxLatency: 3.0,
      liveBufferLatencyMinRemain: 0.6,
    },
  );
  player.on(mpegts.Events.SCRIPTDATA_ARRIVED, (data: unknown) => anchors.observe(data));
  player.on(mpegts.Events.ERROR, (type: string, detail: string, info?: { code?: number; msg?: string }) => {
    events.failed(`${type}: ${info?.msg || detail} ${info?.code && info.code > 0 ? info.code : ""}`.trim());
  });
  player.on(mpegts.Events.LOADING_COMPLETE, () => events.closed());
  player.attachMediaElement(video);
  player.load();
  return {
    latency: (serverNowMs) => anchors.latency(video, serverNowMs) ?? bufferLatency(video),
    detach() {
      player.destroy();
      // liveSync leaves its rate on the element.
      video.playbackRate = 1;
    },
  };
}

/** mpegts.js resolves a relative address against its worker, and opens a WebSocket for the schemes of one. */
function absolute(url: string): string {
  const page = new URL(location.href);
  if (url.startsWith("ws:")) page.protocol = page.protocol === "https:" ? "wss:" : "ws:";
  return new URL(url.replace(/^ws:/, ""), page).href;
}

interface Anchor {
  timestamp_ms: number;
  wall_ms: number;
}

/** The wall times that the stream has told, in the order of their timestamps. */
class Anchors {
  /** The FLV timestamp that mpegts.js shows as `currentTime` 0: that of the first frame, which the first anchor names. */
  private originMs: number | null = null;
  private anchors: Anchor[] = [];

  observe(data: unknown): void {
    const anchor = (data as { onAnchor?: Partial<Anchor> } | null)?.onAnchor;
    if (typeof anchor?.timestamp_ms !== "number" || typeof anchor.wall_ms !== "number") return;
    this.originMs ??= anchor.timestamp_ms;
    this.anchors.push({ timestamp_ms: anchor.timestamp_ms, wall_ms: anchor.wall_ms });
    if (this.anchors.length > ANCHORS_MAX) this.anchors.shift();
  }

  latency(video: HTMLVideoElement, serverNowMs: number): Latency | null {
    if (this.originMs === null) return null;
    const timestampMs = this.originMs + video.currentTime * 1000;
    const [oldest] = this.anchors;
    const inForce = this.anchors.filter((anchor) => anchor.timestamp_ms <= timestampMs).pop() ?? oldest;
    if (inForce === undefined) return null;
    return { ms: serverNowMs - inForce.wall_ms - (timestampMs - inForce.timestamp_ms), kind: "measured" };
  }
}

function bufferLatency(video: HTMLVideoElement): Latency | null {
  const ranges = video.buffered;
  if (ranges.length === 0) return null;
  return { ms: (ranges.end(ranges.length - 1) - video.currentTime) * 1000, kind: "buffer" };
}
