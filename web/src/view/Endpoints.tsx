// The addresses of the chosen stream for other players; for a stream that nobody publishes, how to publish it.

import { httpUrl, publishCommand, rtmpUrl } from "../endpoints";
import { protocolById } from "../protocols";
import { CopyRow } from "./CopyRow";

export function Endpoints({ stream, live }: { stream: string; live: boolean }) {
  const flv = httpUrl(protocolById("http-flv").path(stream));
  const hls = httpUrl(protocolById("ll-hls").path(stream));
  const dash = httpUrl(protocolById("dash").path(stream));
  return (
    <section class="endpoints card">
      {live ? (
        <>
          <h2>Watch in another player</h2>
          <p class="quiet">VLC: Media → Open Network Stream. ffplay: as the first argument.</p>
          <CopyRow label="HLS" text={hls} />
          <CopyRow label="DASH" text={dash} />
          <CopyRow label="HTTP-FLV" text={flv} />
          <CopyRow label="RTMP" text={rtmpUrl(stream)} />
          <CopyRow label="ffplay" text={`ffplay -fflags nobuffer -flags low_delay ${flv}`} />
        </>
      ) : (
        <>
          <h2>Publish this stream</h2>
          <p class="quiet">The picture appears here as soon as it arrives.</p>
          <CopyRow label="Encoder" text={rtmpUrl(stream)} />
          <CopyRow label="FFmpeg" text={publishCommand(stream)} />
        </>
      )}
    </section>
  );
}
