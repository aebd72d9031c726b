// DASH (ISO/IEC 23009-1), played by dash.js. How far behind is what the manifest's ServiceDescription asks.
// Latency comes from the manifest: the presentation's time is the wall time at which the server received the media.

import { MediaPlayer } from "dashjs";
import type { Attachment, AttachmentEvents } from "../protocols";

/** Whether this browser can play DASH. */
export function supported(): boolean {
  return typeof MediaSource !== "undefined";
}

/** Plays the presentation whose manifest is at `url`. */
export function attach(video: HTMLVideoElement, url: string, events: AttachmentEvents): Attachment {
  const player = MediaPlayer().create();
  player.updateSettings({
    // Its errors reach the supervisor as events; on the console of every outage they would only be noise.
    debug: { logLevel: 0 },
    streaming: {
      liveCatchup: { enabled: true },
      // Nothing about viewers is kept, in their browsers either.
      lastBitrateCachingInfo: { enabled: false },
      lastMediaSettingsCachingInfo: { enabled: false },
    },
  });
  player.on("error", ({ error }: { error: unknown }) => events.failed(reason(error)));
  // It refreshes the manifest only once it has seen the element start, which the supervisor did before it listened.
  player.on("streamInitialized", () => video.paused || video.dispatchEvent(new Event("play")));
  player.initialize(video, url, false);
  return {
    latency(serverNowMs) {
      const shownAt = player.isReady() ? player.timeAsUTC() : NaN;
      return shownAt > 0 ? { ms: serverNowMs - shownAt * 1000, kind: "measured" } : null;
    },
    // After an outage longer than the manifest there is nothing left at the old position.
    resumePoint() {
      const range = player.isReady() ? player.getDvrWindow() : null;
      return range && video.currentTime < range.start ? range.end - player.getTargetLiveDelay() : null;
    },
    detach() {
      player.destroy();
      // Catching up leaves its rate on the element.
      video.playbackRate = 1;
    },
  };
}

function reason(error: unknown): string {
  if (typeof error !== "object" || error === null) return `DASH: ${error}`;
  const { code, message } = error as { code?: number; message?: string };
  return `DASH: ${message ?? "error"} ${code ?? ""}`.trim();
}
