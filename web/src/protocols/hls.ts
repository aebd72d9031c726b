// HLS (RFC 8216): hls.js where there are Media Source Extensions, the browser's own player elsewhere (iPhone).
// Latency comes from EXT-X-PROGRAM-DATE-TIME, which maps the media's time to the server's wall clock.

import Hls, { Events, type HlsConfig } from "hls.js";
import type { Attachment, AttachmentEvents, Player } from "../protocols";

/** Who is so many segments behind the live edge jumps to it: a tab that slept, a network that was away. */
const BEHIND_MAX = 6;

/** Plays parts of segments as they come, as far behind as the playlist's PART-HOLD-BACK says. */
export const lowLatency = player(BEHIND_MAX, {
  lowLatencyMode: true,
  // hls.js starts later than where it aims at; this makes up for it.
  maxLiveSyncPlaybackRate: 1.1,
});

/** Plays whole segments. */
export const classic = player(BEHIND_MAX, {
  lowLatencyMode: false,
  // Two segments behind the live edge instead of the three that the RFC suggests: on a steady network the third only
  // adds latency, and hls.js steps back by itself after a stall.
  liveSyncDurationCount: 2,
});

/** Plays from where the playlist's EXT-X-START says, and stays as far behind. */
export const rewound = player(Infinity, { lowLatencyMode: false });

function player(behindMax: number, config: Partial<HlsConfig>): Player {
  return {
    supported: (video) => Hls.isSupported() || video.canPlayType("application/vnd.apple.mpegurl") !== "",
    attach: (video, url, events) =>
      Hls.isSupported() ? attachHlsJs(behindMax, config, video, url, events) : attachNative(video, url, events),
  };
}

function attachHlsJs(
  behindMax: number,
  config: Partial<HlsConfig>,
  video: HTMLVideoElement,
  url: string,
  events: AttachmentEvents,
): Attachment {
  const hls = new Hls({
    ...config,
    // A live page has no use for a long past.
    backBufferLength: 30,
    // The supervisor retries, with the knowledge of whether the stream is live; hls.js would only add its own delays.
    manifestLoadPolicy: {
      default: { maxTimeToFirstByteMs: 8000, maxLoadTimeMs: 15_000, timeoutRetry: null, errorRetry: null },
    },
  });
  // Its constructor takes this only beside a number of segments to aim at, which would beat PART-HOLD-BACK.
  hls.config.liveMaxLatencyDurationCount = behindMax;
  hls.on(Events.ERROR, (_, error) => {
    if (error.fatal) events.failed(`${error.type}: ${error.details}`);
  });
  hls.attachMedia(video);
  hls.loadSource(url);
  return {
    latency(serverNowMs) {
      const shownAt = hls.playingDate;
      return shownAt === null ? null : { ms: serverNowMs - shownAt.getTime(), kind: "measured" };
    },
    // When a playlist goes on without a segment of the last one, as after a restart of the server, hls.js places it
    // later than everything it has, and waits for ever at the old position.
    resumePoint() {
      const playlistStart = hls.latestLevelDetails?.fragmentStart ?? 0;
      return video.currentTime < playlistStart ? hls.liveSyncPosition : null;
    },
    detach() {
      hls.destroy();
      // Catching up leaves its rate on the element.
      video.playbackRate = 1;
    },
  };
}

/** Safari's addition to the media element: the wall time of `currentTime` 0. */
interface DatedVideo extends HTMLVideoElement {
  getStartDate?(): Date;
}

function attachNative(video: DatedVideo, url: string, events: AttachmentEvents): Attachment {
  const onError = () => events.failed(`media error ${video.error?.code ?? 0}`);
  const onEnded = () => events.closed();
  video.addEventListener("error", onError);
  video.addEventListener("ended", onEnded);
  video.src = url;
  return {
    latency(serverNowMs) {
      const startMs = video.getStartDate?.().getTime() ?? NaN;
      return Number.isNaN(startMs) ? null : { ms: serverNowMs - startMs - video.currentTime * 1000, kind: "measured" };
    },
    detach() {
      video.removeEventListener("error", onError);
      video.removeEventListener("ended", onEnded);
      video.removeAttribute("src");
      video.load();
    },
  };
}
