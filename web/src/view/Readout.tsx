// The figures: what is measured in this browser, and what the server says of the stream.

import * as format from "../format";
import type { Stream, Track } from "../status";
import type { Playing } from "./App";

export function Readout({ playing, stream }: { playing: Playing | null; stream: Stream | null }) {
  const state = playing?.state ?? null;
  const video = stream?.tracks.find(({ kind }) => kind === "video") ?? null;
  const audio = stream?.tracks.find(({ kind }) => kind === "audio") ?? null;
  const measured = state?.latencyKind !== "buffer";
  return (
    <section class="readout card" aria-label="Figures">
      <div class="figure hero">
        <h2>{measured ? "Latency" : "Buffer latency"}</h2>
        <p>{state?.latencyMs == null ? "–" : format.latency(state.latencyMs)}</p>
        <small>
          {measured ? "from the server's receiving a frame to its showing here" : "this stream does not carry its wall time"}
        </small>
      </div>
      <dl>
        <Figure name="Bitrate" value={format.bitrate(stream?.bitrate_bps ?? 0)} />
        <Figure name="Picture" value={resolution(state, video)} />
        <Figure name="Frame rate" value={playing?.fps == null ? "–" : `${playing.fps.toFixed(1)} fps`} />
        <Figure name="Viewers" value={stream ? String(stream.viewers) : "–"} />
        <Figure name="Video" value={codec(video)} />
        <Figure name="Audio" value={codec(audio)} />
        <Figure name="Buffer" value={state ? `${state.bufferSeconds.toFixed(1)} s` : "–"} />
        <Figure name="Dropped frames" value={state ? String(state.droppedFrames) : "–"} />
        <Figure name="Stalls" value={state ? String(state.stalls) : "–"} />
        <Figure name="Reconnects" value={state ? String(state.reconnects) : "–"} />
      </dl>
    </section>
  );
}

function Figure({ name, value }: { name: string; value: string }) {
  return (
    <div class="figure">
      <dt>{name}</dt>
      <dd>{value}</dd>
    </div>
  );
}

function resolution(state: Playing["state"] | null, video: Track | null): string {
  const width = state?.width || video?.width;
  const height = state?.height || video?.height;
  return width && height ? `${width} × ${height}` : "–";
}

function codec(track: Track | null): string {
  if (track === null) return "–";
  if (track.sample_rate !== null) {
    return `${track.codec} ${track.sample_rate / 1000} kHz${track.channels === 1 ? " mono" : ""}`;
  }
  return track.codecs === null ? track.codec : `${track.codec} (${track.codecs})`;
}
