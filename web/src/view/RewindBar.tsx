// The bar under the picture that goes back in time: the right end is live.

import { useState } from "preact/hooks";
import * as format from "../format";

interface Props {
  /** How far back the stream goes. */
  windowSeconds: number;
  /** Where the viewer is; null for live. */
  rewoundSeconds: number | null;
  rewind(seconds: number | null): void;
}

/** What one press of an arrow key moves. */
const STEP_SECONDS = 5;

export function RewindBar({ windowSeconds, rewoundSeconds, rewind }: Props) {
  // While the viewer drags, the thumb is theirs.
  const [dragged, setDragged] = useState<number | null>(null);
  const length = Math.floor(windowSeconds / STEP_SECONDS) * STEP_SECONDS;
  const seconds = Math.min(length, dragged ?? rewoundSeconds ?? 0);
  const words = seconds === 0 ? "live" : `${format.duration(seconds)} behind live`;
  return (
    <div class="rewind">
      <input
        type="range"
        min={-length}
        max="0"
        step={STEP_SECONDS}
        value={-seconds}
        aria-label="Rewind"
        aria-valuetext={words}
        title={words}
        onInput={({ currentTarget }) => setDragged(-currentTarget.valueAsNumber)}
        onChange={({ currentTarget }) => {
          const chosen = -currentTarget.valueAsNumber;
          setDragged(null);
          rewind(chosen === 0 ? null : chosen);
        }}
      />
      <span class="behind">{seconds === 0 ? "" : `−${format.duration(seconds)}`}</span>
      <button type="button" class="to-live" disabled={rewoundSeconds === null} onClick={() => rewind(null)}>
        {rewoundSeconds === null ? "Live" : "Back to live"}
      </button>
    </div>
  );
}
