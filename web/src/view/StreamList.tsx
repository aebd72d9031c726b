// The streams of the server, to choose from.

import * as format from "../format";
import type { Stream } from "../status";

interface Props {
  streams: Stream[];
  chosen: string | null;
  choose(name: string): void;
}

export function StreamList({ streams, chosen, choose }: Props) {
  return (
    <nav class="streams card" aria-label="Streams">
      <h2>Streams</h2>
      {streams.length === 0 ? <p class="quiet">No stream at the moment.</p> : null}
      <ul>
        {streams.map((stream) => (
          <li key={stream.name}>
            <button type="button" aria-current={stream.name === chosen} onClick={() => choose(stream.name)}>
              <span class={stream.state === "live" ? "dot live" : "dot"} aria-hidden="true" />
              <span class="name">{stream.name}</span>
              <span class="facts">{facts(stream)}</span>
            </button>
          </li>
        ))}
      </ul>
    </nav>
  );
}

function facts(stream: Stream): string {
  if (stream.state !== "live") return stream.reason ?? stream.state;
  const height = stream.tracks.find(({ kind }) => kind === "video")?.height ?? null;
  const parts = [format.viewers(stream.viewers), format.duration(stream.uptime_seconds)];
  if (height !== null) parts.unshift(`${height}p`);
  return parts.join(" · ");
}
