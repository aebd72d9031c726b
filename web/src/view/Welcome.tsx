// What a viewer sees while the server has no stream: how to make one.

import { publishCommand, rtmpServer } from "../endpoints";
import { CopyRow } from "./CopyRow";

/** The name in the examples. */
const EXAMPLE_STREAM = "demo";

export function Welcome({ loading }: { loading: boolean }) {
  if (loading) {
    return (
      <section class="welcome" aria-busy="true">
        <span class="spinner" aria-hidden="true" />
        <p class="quiet">Asking the server for its streams…</p>
      </section>
    );
  }
  return (
    <section class="welcome">
      <svg class="waves" viewBox="0 0 240 60" aria-hidden="true">
        <path d="M0 20c20-16 40-16 60 0s40 16 60 0 40-16 60 0 40 16 60 0" />
        <path d="M0 40c20-16 40-16 60 0s40 16 60 0 40-16 60 0 40 16 60 0" />
      </svg>
      <h1>Nothing is live yet</h1>
      <p class="quiet">Publish a stream, and it plays here within seconds. This page watches for it.</p>
      <div class="card steps">
        <h2>With FFmpeg</h2>
        <CopyRow label="Test picture" text={publishCommand(EXAMPLE_STREAM)} />
        <h2>With OBS Studio or another encoder</h2>
        <CopyRow label="Server" text={rtmpServer()} />
        <CopyRow label="Stream key" text={EXAMPLE_STREAM} />
        <p class="quiet">
          H.264 video and AAC audio, with a key frame every two seconds. Where publishing needs a key, it follows the name:{" "}
          {EXAMPLE_STREAM}?key=…
        </p>
      </div>
    </section>
  );
}
