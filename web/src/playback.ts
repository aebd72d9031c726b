// The supervisor of playing: one video element, one stream, one protocol, and the will to keep the picture moving.
// Owns attaching, starting anew with back-off, nudging a picture that stands still, and the counters of the diagnostic
// hook. Does not know any protocol, draws nothing.

import type { Attachment, Latency, Protocol } from "./protocols";
import type { ServerClock } from "./server_clock";

/** What playing is at. */
export type Phase =
  | { kind: "idle" }
  /** The player is started and has shown nothing yet. */
  | { kind: "connecting" }
  | { kind: "playing" }
  /** The picture stands still for want of media, and the stream is live. */
  | { kind: "buffering" }
  /** Nothing to play: the stream has no publisher at the moment. */
  | { kind: "waiting" }
  /** The next start is at `atMs` on the `performance.now()` clock. */
  | { kind: "reconnecting"; atMs: number; reason: string }
  | { kind: "paused" }
  /** The browser wants a click before it plays. */
  | { kind: "blocked" }
  /** This browser cannot play this protocol. */
  | { kind: "unsupported" };

/** The diagnostic hook: what `window.weir.state()` returns. The end-to-end tests read it. */
export interface PlaybackState {
  protocol: string | null;
  stream: string | null;
  phase: Phase["kind"];
  currentTime: number;
  /** The picture has moved within the last second. */
  playing: boolean;
  /** Errors that ended a player, since the page was opened. */
  fatalErrors: number;
  /** The text of the latest of them. */
  lastError: string | null;
  /** How often a moving picture came to a halt. */
  stalls: number;
  /** How far behind live the viewer wants to be; null for live. */
  rewoundSeconds: number | null;
  /** How often a halt was ended by moving `currentTime`. */
  nudges: number;
  /** How often a player was started again. */
  reconnects: number;
  latencyMs: number | null;
  latencyKind: Latency["kind"] | null;
  /** Media buffered ahead of the picture, in seconds. */
  bufferSeconds: number;
  decodedFrames: number;
  droppedFrames: number;
  width: number;
  height: number;
  serverClockOffsetMs: number;
}

/** How often the picture is looked after. */
const SUPERVISE_INTERVAL_MS = 200;

/** A moving picture that stands this long is stalled. Longer than the longest frame of a 2 fps stream. */
const STALL_MS = 700;

/** Before the first picture the player library chooses the position itself; it gets this long. */
const START_MS = 2500;

/** Between two nudges: the decoder needs some time to show the result of one. */
const NUDGE_INTERVAL_MS = 500;

/** After so many nudges without effect the player is started anew. */
const NUDGES_MAX = 3;

/** Distance of the first nudge; the second goes twice as far. */
const NUDGE_SECONDS = 0.1;

/** Less than this ahead is not worth a nudge: browsers hold the last fraction of a second back until more arrives. */
const AHEAD_SECONDS_MIN = 0.3;

/** Delays before the first, second, ... new start. The last repeats for ever. */
const RETRY_DELAYS_MS = [500, 1000, 2000, 3500, 5000] as const;

/** A picture that moved this long was a success: the next loss begins with the shortest delay. */
const STABLE_MS = 5000;

/** New starts are spread over this share of the delay, so that the viewers of a restarted server do not come at once. */
const JITTER = 0.3;

/** After a pause this long, playing goes on at the live edge. */
const PAUSE_KEPT_MS = 2000;

/** Keeps one stream playing in one video element. */
export class Playback {
  private protocol: Protocol | null = null;
  private stream: string | null = null;
  private attachment: Attachment | null = null;
  /** Counts choices and starts, so that a late answer of an earlier one is recognised. */
  private generation = 0;

  /** Null while the server has not said. */
  private live: boolean | null = null;
  private liveSinceMs = 0;
  private pausedSinceMs: number | null = null;
  /** Follows the picture, so that a new start goes on where the viewer was. */
  private rewoundSeconds: number | null = null;
  private blocked = false;
  private unsupported = false;
  private retry: { atMs: number; reason: string } | null = null;
  private failures = 0;

  private attachedMs = 0;
  private lastTime = 0;
  private lastMoveMs = 0;
  private movingSinceMs: number | null = null;
  private shownSinceAttach = false;
  private stalled = false;
  private nudgesInHalt = 0;
  private lastNudgeMs = 0;

  private fatalErrors = 0;
  private lastError: string | null = null;
  private stalls = 0;
  private nudges = 0;
  private reconnects = 0;

  constructor(
    private readonly video: HTMLVideoElement,
    private readonly clock: ServerClock,
  ) {
    video.addEventListener("pause", () => this.onPause());
    video.addEventListener("play", () => this.onPlay());
    setInterval(() => this.supervise(), SUPERVISE_INTERVAL_MS);
  }

  /** Plays that stream by that protocol from now on. Null stops. */
  choose(protocol: Protocol, stream: string | null): void {
    if (protocol === this.protocol && stream === this.stream) return;
    this.release();
    this.protocol = protocol;
    this.stream = stream;
    this.failures = 0;
    this.live = null;
    this.pausedSinceMs = null;
    this.rewoundSeconds = null;
    this.blocked = false;
    this.unsupported = false;
    if (stream !== null) void this.start();
  }

  /** Plays what was live so many seconds ago. Null is back to live. */
  rewind(seconds: number | null): void {
    if (this.stream === null || !this.protocol?.rewind) return;
    this.rewoundSeconds = seconds;
    this.pausedSinceMs = null;
    void this.start();
  }

  /** Tells whether the server says that the chosen stream has a publisher. Null if it says nothing. */
  setLive(live: boolean | null): void {
    if (live === this.live) return;
    this.live = live;
    if (!live) return;
    this.liveSinceMs = performance.now();
    // A stream that has just returned may have no first segment yet: ask again soon.
    this.failures = 0;
    // Waiting for the rest of a delay would only cost the viewer time. The spread is for the other viewers' sake.
    if (this.retry) this.retry.atMs = Math.min(this.retry.atMs, performance.now() + Math.random() * 300);
  }

  /** Plays or pauses, as a click on the button means it. */
  togglePause(): void {
    if (this.video.paused) void this.play();
    else this.video.pause();
  }

  phase(): Phase {
    if (this.stream === null) return { kind: "idle" };
    if (this.unsupported) return { kind: "unsupported" };
    if (this.pausedSinceMs !== null) return { kind: "paused" };
    if (this.retry) return this.live === false ? { kind: "waiting" } : { kind: "reconnecting", ...this.retry };
    if (this.blocked) return { kind: "blocked" };
    if (this.shownSinceAttach && !this.stalled) return { kind: "playing" };
    if (this.live === false) return { kind: "waiting" };
    return { kind: this.shownSinceAttach ? "buffering" : "connecting" };
  }

  state(): PlaybackState {
    const latency = this.latency();
    const frames = this.video.getVideoPlaybackQuality?.();
    return {
      protocol: this.protocol?.id ?? null,
      stream: this.stream,
      phase: this.phase().kind,
      currentTime: this.video.currentTime,
      playing: this.shownSinceAttach && !this.video.paused && performance.now() - this.lastMoveMs < 1000,
      fatalErrors: this.fatalErrors,
      lastError: this.lastError,
      stalls: this.stalls,
      rewoundSeconds: this.rewoundSeconds === null ? null : Math.round(this.rewoundSeconds),
      nudges: this.nudges,
      reconnects: this.reconnects,
      latencyMs: latency === null ? null : Math.round(latency.ms),
      latencyKind: latency?.kind ?? null,
      bufferSeconds: secondsAhead(this.video),
      decodedFrames: frames?.totalVideoFrames ?? 0,
      droppedFrames: frames?.droppedVideoFrames ?? 0,
      width: this.video.videoWidth,
      height: this.video.videoHeight,
      serverClockOffsetMs: Math.round(this.clock.offsetMs()),
    };
  }

  private latency(): Latency | null {
    return this.shownSinceAttach ? (this.attachment?.latency(this.clock.nowMs()) ?? null) : null;
  }

  private async start(): Promise<void> {
    this.release();
    const { protocol, stream, rewoundSeconds, generation } = this;
    if (protocol === null || stream === null) return;
    const ours = () => generation === this.generation;
    this.attachedMs = performance.now();
    this.lastMoveMs = this.attachedMs;
    try {
      const rewind = rewoundSeconds === null ? undefined : protocol.rewind;
      const { attach, supported } = await (rewind ?? protocol).load();
      if (!ours()) return;
      if (!supported(this.video)) {
        this.unsupported = true;
        return;
      }
      const path = rewind ? rewind.path(stream, rewoundSeconds ?? 0) : protocol.path(stream);
      this.attachment = attach(this.video, path, {
        failed: (reason) => ours() && this.fail(reason),
        closed: () => ours() && this.restartLater("the connection was closed"),
      });
    } catch (error) {
      // The chunk of the library could not be loaded, or the library threw.
      if (ours()) this.fail(String(error));
      return;
    }
    this.lastTime = this.video.currentTime;
    void this.play();
  }

  /** Ends the present player and forgets all about its run. */
  private release(): void {
    this.generation += 1;
    const attachment = this.attachment;
    this.attachment = null;
    attachment?.detach();
    this.retry = null;
    this.shownSinceAttach = false;
    this.stalled = false;
    this.nudgesInHalt = 0;
    this.movingSinceMs = null;
  }

  private fail(reason: string): void {
    this.fatalErrors += 1;
    this.lastError = reason;
    this.restartLater(reason);
  }

  private restartLater(reason: string): void {
    this.release();
    const delayMs = RETRY_DELAYS_MS[Math.min(this.failures, RETRY_DELAYS_MS.length - 1)] ?? 0;
    this.failures += 1;
    this.reconnects += 1;
    this.retry = { atMs: performance.now() + delayMs * (1 - JITTER * Math.random()), reason };
  }

  private async play(): Promise<void> {
    try {
      await this.video.play();
      this.blocked = false;
    } catch (error) {
      // AbortError is a player that was replaced meanwhile; only a missing click needs the viewer.
      if (!(error instanceof DOMException) || error.name !== "NotAllowedError") return;
      if (this.video.muted) {
        this.blocked = true;
      } else {
        this.video.muted = true;
        await this.play();
      }
    }
  }

  private onPause(): void {
    // Libraries pause the element while they let go of it, browsers when it ends; a viewer pauses only what plays.
    if (this.attachment && this.shownSinceAttach && this.video.paused && !this.video.ended) {
      this.pausedSinceMs = performance.now();
    }
  }

  private onPlay(): void {
    const pausedMs = this.pausedSinceMs === null ? 0 : performance.now() - this.pausedSinceMs;
    this.pausedSinceMs = null;
    if (pausedMs > PAUSE_KEPT_MS && this.rewoundSeconds === null) void this.start();
  }

  /** Looks after the picture, several times a second. */
  private supervise(): void {
    const nowMs = performance.now();
    if (this.retry && nowMs >= this.retry.atMs) void this.start();
    if (!this.attachment || this.pausedSinceMs !== null) return;
    if (this.video.paused && !this.blocked) void this.play();

    if (this.video.currentTime !== this.lastTime) {
      this.moved(nowMs);
      return;
    }
    const grace = this.shownSinceAttach ? STALL_MS : START_MS;
    if (nowMs - this.lastMoveMs < grace || this.blocked) return;
    if (this.shownSinceAttach && !this.stalled) this.stalls += 1;
    this.stalled = true;
    this.movingSinceMs = null;
    this.unstick(nowMs);
  }

  private moved(nowMs: number): void {
    this.lastTime = this.video.currentTime;
    this.lastMoveMs = nowMs;
    // A library may set the start position before there is a picture.
    if (this.video.readyState < HTMLMediaElement.HAVE_CURRENT_DATA) return;
    this.shownSinceAttach = true;
    this.stalled = false;
    this.nudgesInHalt = 0;
    this.movingSinceMs ??= nowMs;
    const latency = this.rewoundSeconds === null ? null : this.latency();
    if (latency) this.rewoundSeconds = latency.ms / 1000;
    if (nowMs - this.movingSinceMs > STABLE_MS) this.failures = 0;
  }

  /** The picture stands still: moves on to media that is there, or starts anew if none comes. */
  private unstick(nowMs: number): void {
    const target = this.resumePoint();
    if (target === null) {
      const withoutMediaMs = nowMs - Math.max(this.lastMoveMs, this.liveSinceMs, this.attachedMs);
      const patienceMs = this.protocol?.patienceMs ?? 0;
      if (this.live && withoutMediaMs > patienceMs) this.restartLater("no media arrived");
      return;
    }
    if (nowMs - this.lastNudgeMs < NUDGE_INTERVAL_MS) return;
    if (this.nudgesInHalt >= NUDGES_MAX) {
      this.restartLater("the picture did not move");
      return;
    }
    this.nudgesInHalt += 1;
    this.nudges += 1;
    this.lastNudgeMs = nowMs;
    this.video.currentTime = target;
    // The nudge itself is not a movement of the picture.
    this.lastTime = this.video.currentTime;
  }

  /** Where the picture can go on: a little further in the buffered media, behind the hole, or where the player says. */
  private resumePoint(): number | null {
    const { buffered, currentTime } = this.video;
    for (let i = 0; i < buffered.length; i += 1) {
      const start = buffered.start(i);
      const end = buffered.end(i);
      if (start > currentTime) return start + 0.01;
      if (end - currentTime > AHEAD_SECONDS_MIN) return currentTime + NUDGE_SECONDS * (this.nudgesInHalt + 1);
    }
    return this.attachment?.resumePoint?.() ?? null;
  }
}

function secondsAhead(video: HTMLVideoElement): number {
  const { buffered, currentTime } = video;
  for (let i = 0; i < buffered.length; i += 1) {
    if (buffered.start(i) <= currentTime && currentTime <= buffered.end(i)) return buffered.end(i) - currentTime;
  }
  return 0;
}
