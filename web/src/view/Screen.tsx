// The picture, what is said over it, and the controls.

import type { RefObject } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import * as format from "../format";
import type { Phase, Playback } from "../playback";
import type { Stream } from "../status";
import type { Playing } from "./App";
import { Icon } from "./Icon";
import { RewindBar } from "./RewindBar";

/** A live playlist alone holds some twenty seconds; a bar for them would promise too much. */
const REWIND_SECONDS_MIN = 30;

interface Props {
  video: RefObject<HTMLVideoElement | null>;
  playback: RefObject<Playback | null>;
  playing: Playing | null;
  stream: Stream | null;
  /** Whether the protocol can be watched from earlier on. */
  canRewind: boolean;
}

export function Screen({ video, playback, playing, stream, canRewind }: Props) {
  const frame = useRef<HTMLDivElement>(null);
  const [paused, setPaused] = useState(true);
  const [muted, setMuted] = useState(true);
  const [volume, setVolume] = useState(1);

  useEffect(() => {
    const element = video.current;
    if (!element) return;
    // A property, not an attribute: Preact does not reflect `muted`, and browsers start only what is muted by itself.
    element.muted = true;
    const follow = () => {
      setPaused(element.paused);
      setMuted(element.muted || element.volume === 0);
      setVolume(element.volume);
    };
    for (const event of ["play", "pause", "volumechange"]) element.addEventListener(event, follow);
  }, []);

  const togglePause = () => playback.current?.togglePause();
  const toggleMute = () => {
    const element = video.current;
    if (!element) return;
    element.muted = !element.muted;
    if (!element.muted && element.volume === 0) element.volume = 1;
  };
  const toggleFullscreen = () => void fullscreen(frame.current, video.current);

  // A button that its own click removes would take the focus, and with it the keys, away.
  const keepFocus = (action: () => void) => () => {
    frame.current?.focus({ preventScroll: true });
    action();
  };

  const onKeyDown = (event: KeyboardEvent) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    // Space on a focused button already presses that button.
    const onControl = event.target !== frame.current && event.key === " ";
    const action = { " ": togglePause, k: togglePause, m: toggleMute, f: toggleFullscreen }[event.key];
    if (!action || onControl) return;
    event.preventDefault();
    action();
  };

  const phase = playing?.phase ?? { kind: "idle" };
  const message = words(phase, stream);
  const shown = phase.kind === "playing" || phase.kind === "buffering" || phase.kind === "paused";
  const silent = stream !== null && stream.tracks.length > 0 && !stream.tracks.some(({ kind }) => kind === "audio");
  const audioOnly = stream !== null && stream.tracks.length > 0 && !stream.tracks.some(({ kind }) => kind === "video");
  const latency = playing?.state.latencyMs ?? null;
  const rewoundSeconds = playing?.state.rewoundSeconds ?? null;
  const windowSeconds = canRewind ? (stream?.rewind_seconds ?? 0) : 0;

  return (
    <div
      ref={frame}
      class="screen"
      tabIndex={0}
      role="group"
      aria-label="Video. Space plays and pauses, M mutes, F fills the screen."
      onKeyDown={onKeyDown}
    >
      <video ref={video} playsInline disableRemotePlayback onClick={togglePause} />
      {audioOnly && shown ? <p class="audio-only">Audio only</p> : null}
      <div class="badges">
        <span class={phase.kind === "playing" && rewoundSeconds === null ? "badge live" : "badge"}>
          {phase.kind !== "playing" ? "Off air" : rewoundSeconds === null ? "Live" : "Rewound"}
        </span>
        {phase.kind === "playing" && latency !== null ? <span class="badge">{format.latency(latency)} behind</span> : null}
      </div>
      <div class={message === null ? "message" : "message visible"} role="status" aria-live="polite">
        {message === null ? null : (
          <>
            {message.busy ? <span class="spinner" aria-hidden="true" /> : null}
            <strong>{message.title}</strong>
            {message.detail === null ? null : <span>{message.detail}</span>}
          </>
        )}
      </div>
      {phase.kind === "blocked" || phase.kind === "paused" ? (
        <button type="button" class="big" onClick={keepFocus(togglePause)}>
          <Icon name="play" />
          {phase.kind === "blocked" || rewoundSeconds !== null ? "Play" : "Back to live"}
        </button>
      ) : null}
      {shown && phase.kind !== "paused" && muted && !silent ? (
        <button type="button" class="unmute" onClick={keepFocus(toggleMute)}>
          <Icon name="muted" />
          Tap for sound
        </button>
      ) : null}
      <div class="controls">
        {windowSeconds >= REWIND_SECONDS_MIN ? (
          <RewindBar
            windowSeconds={windowSeconds}
            rewoundSeconds={rewoundSeconds}
            rewind={(seconds) => playback.current?.rewind(seconds)}
          />
        ) : null}
        <button type="button" onClick={togglePause} aria-label={paused ? "Play" : "Pause"}>
          <Icon name={paused ? "play" : "pause"} />
        </button>
        <button type="button" onClick={toggleMute} aria-label={muted ? "Unmute" : "Mute"} disabled={silent}>
          <Icon name={muted ? "muted" : "loud"} />
        </button>
        <input
          type="range"
          class="volume"
          min="0"
          max="1"
          step="0.05"
          value={muted ? 0 : volume}
          disabled={silent}
          aria-label="Volume"
          onInput={({ currentTarget }) => {
            if (!video.current) return;
            video.current.volume = currentTarget.valueAsNumber;
            video.current.muted = currentTarget.valueAsNumber === 0;
          }}
        />
        <span class="space" />
        <button type="button" onClick={toggleFullscreen} aria-label="Full screen">
          <Icon name="fullscreen" />
        </button>
      </div>
    </div>
  );
}

interface Message {
  title: string;
  detail: string | null;
  busy: boolean;
}

function words(phase: Phase, stream: Stream | null): Message | null {
  switch (phase.kind) {
    case "idle":
    case "playing":
    case "paused":
    case "blocked":
      return null;
    case "connecting":
      return { title: "Connecting", detail: null, busy: true };
    case "buffering":
      return { title: "Buffering", detail: null, busy: true };
    case "waiting":
      return {
        title: "Waiting for the publisher",
        detail: stream?.reason ?? "The picture starts by itself.",
        busy: true,
      };
    case "reconnecting": {
      const seconds = Math.max(1, Math.ceil((phase.atMs - performance.now()) / 1000));
      return { title: `Reconnecting in ${seconds} s`, detail: phase.reason, busy: true };
    }
    case "unsupported":
      return { title: "This browser cannot play this protocol", detail: "Choose another one below.", busy: false };
  }
}

/** Safari on iPhone lets only the video itself fill the screen, by a call of its own. */
interface PhoneVideo extends HTMLVideoElement {
  webkitEnterFullscreen?(): void;
}

async function fullscreen(frame: HTMLElement | null, video: PhoneVideo | null): Promise<void> {
  if (document.fullscreenElement) return document.exitFullscreen();
  if (frame?.requestFullscreen) return frame.requestFullscreen();
  video?.webkitEnterFullscreen?.();
}
