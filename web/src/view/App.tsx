// The page: what is chosen, what the server says, what the supervisor does, and where each is shown.

import { useEffect, useRef, useState } from "preact/hooks";
import { type Choice, readChoice, writeChoice } from "../address";
import { type Phase, Playback, type PlaybackState } from "../playback";
import { PROTOCOLS, type Protocol } from "../protocols";
import { ServerClock } from "../server_clock";
import { pollStatus, type Status } from "../status";
import { Endpoints } from "./Endpoints";
import { Readout } from "./Readout";
import { Screen } from "./Screen";
import { StreamList } from "./StreamList";
import { Welcome } from "./Welcome";

declare global {
  interface Window {
    /** The diagnostic hook, for tests and for support. Stable: fields are added, never changed. */
    weir?: { state(): PlaybackState };
  }
}

/** How often the figures on the page change. */
const REFRESH_INTERVAL_MS = 500;

/** What the page shows of the supervisor at one moment. */
export interface Playing {
  phase: Phase;
  state: PlaybackState;
  /** Decoded frames per second, over the last refresh intervals. Null while nothing plays. */
  fps: number | null;
}

export function App() {
  const video = useRef<HTMLVideoElement>(null);
  const playback = useRef<Playback | null>(null);
  const [status, setStatus] = useState<Status>({ reachable: true, streams: null });
  const [choice, setChoice] = useState<Choice>(readChoice);
  const [playing, setPlaying] = useState<Playing | null>(null);

  useEffect(() => {
    if (!video.current) return;
    const clock = new ServerClock();
    const supervisor = new Playback(video.current, clock);
    const frameRate = new FrameRate();
    playback.current = supervisor;
    window.weir = { state: () => supervisor.state() };
    pollStatus(clock, setStatus);
    setInterval(() => {
      const state = supervisor.state();
      setPlaying({ phase: supervisor.phase(), state, fps: frameRate.observe(state) });
    }, REFRESH_INTERVAL_MS);
    addEventListener("popstate", () => setChoice(readChoice()));
  }, []);

  const streams = status.streams ?? [];
  const stream = streams.find(({ name }) => name === choice.stream) ?? null;
  const live = status.reachable && status.streams !== null ? stream?.state === "live" : null;

  useEffect(() => {
    playback.current?.choose(choice.protocol, choice.stream);
    document.title = choice.stream === null ? "Weir player" : `${choice.stream} · Weir player`;
  }, [choice.protocol, choice.stream]);

  useEffect(() => playback.current?.setLive(live), [live, choice.protocol, choice.stream]);

  // Who comes without a choice gets the first live stream.
  const offered = choice.stream === null ? streams.find(({ state }) => state === "live")?.name : undefined;
  useEffect(() => {
    if (offered !== undefined) choose({ ...choice, stream: offered }, "page");
  }, [offered]);

  function choose(next: Choice, by: "viewer" | "page") {
    writeChoice(next, by);
    setChoice(next);
  }

  const empty = choice.stream === null;
  return (
    <>
      <header class="top">
        <a class="brand" href="/player">
          <Mark />
          Weir
        </a>
        {status.reachable ? null : (
          <p class="notice" role="status">
            The server does not answer. Trying again…
          </p>
        )}
      </header>
      <main class={empty ? "empty" : "watching"}>
        {empty ? <Welcome loading={status.streams === null} /> : null}
        <section class="stage" hidden={empty} aria-label="Player">
          <Screen
            video={video}
            playing={playing}
            stream={stream}
            playback={playback}
            canRewind={choice.protocol.rewind !== undefined}
          />
          <div class="caption">
            <div class="title">
              <h1>{choice.stream}</h1>
              <p>{stream ? describe(stream.tracks) : "not live"}</p>
            </div>
            <ProtocolChoice chosen={choice.protocol} choose={(protocol) => choose({ ...choice, protocol }, "viewer")} />
          </div>
        </section>
        {empty ? null : (
          <>
            <StreamList
              streams={streams}
              chosen={choice.stream}
              choose={(name) => choose({ ...choice, stream: name }, "viewer")}
            />
            <div class="details">
              <Readout playing={playing} stream={stream} />
              <Endpoints stream={choice.stream ?? ""} live={stream !== null} />
            </div>
          </>
        )}
      </main>
    </>
  );
}

function ProtocolChoice({ chosen, choose }: { chosen: Protocol; choose(protocol: Protocol): void }) {
  return (
    <fieldset class="protocols">
      <legend class="unseen">Protocol</legend>
      {PROTOCOLS.map((protocol) => (
        <label key={protocol.id} title={protocol.hint}>
          <input
            type="radio"
            name="protocol"
            value={protocol.id}
            checked={protocol === chosen}
            onChange={() => choose(protocol)}
          />
          <span>{protocol.label}</span>
        </label>
      ))}
    </fieldset>
  );
}

function describe(tracks: { kind: string; codec: string; height: number | null }[]): string {
  return tracks
    .map(({ codec, height }) => (height === null ? codec : `${codec} ${height}p`))
    .join(" · ");
}

function Mark() {
  return (
    <svg class="mark" viewBox="0 0 32 32" aria-hidden="true">
      <path d="M5 11c3-3 5-3 7.3 0s4.4 3 7.4 0 5-3 7.3 0" />
      <path d="M9 17v6.5M16 19v7M23 17v6.5" opacity="0.55" />
    </svg>
  );
}

/** Counts decoded frames over time. */
class FrameRate {
  private samples: { atMs: number; frames: number }[] = [];

  /** The rate over the last samples, with this one. */
  observe(state: PlaybackState): number | null {
    const sample = { atMs: performance.now(), frames: state.decodedFrames };
    const latest = this.samples[this.samples.length - 1];
    // A new player counts from zero.
    if (!state.playing || (latest && sample.frames < latest.frames)) this.samples = [];
    this.samples.push(sample);
    if (this.samples.length > SAMPLES_MAX) this.samples.shift();
    const [first] = this.samples;
    if (!first || this.samples.length < SAMPLES_MIN) return null;
    return (1000 * (sample.frames - first.frames)) / (sample.atMs - first.atMs);
  }
}

/** Three seconds of samples: a rate that is steady to read, and still follows. */
const SAMPLES_MAX = 7;

/** The rate of the first second is that of the start, not of the stream. */
const SAMPLES_MIN = 4;
