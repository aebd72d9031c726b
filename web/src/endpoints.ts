// The addresses of a stream for other programs, as seen from this browser.

/** RTMP's port: registered with IANA, and the server's default. */
const RTMP_PORT = 1935;

/** Where an encoder publishes, and where RTMP players play. */
export function rtmpUrl(stream: string): string {
  return `${rtmpServer()}/${stream}`;
}

/** The "Server" field of an encoder that asks for server and stream key separately. */
export function rtmpServer(): string {
  return `rtmp://${location.hostname}:${RTMP_PORT}/live`;
}

/** A path of this server as a full address. */
export function httpUrl(path: string): string {
  return new URL(path, location.origin).href;
}

/** A command line that publishes a test picture with a clock and a tone. */
export function publishCommand(stream: string): string {
  return [
    "ffmpeg -re -f lavfi -i testsrc2=size=1280x720:rate=30 -f lavfi -i sine=frequency=440",
    "-c:v libx264 -preset veryfast -tune zerolatency -pix_fmt yuv420p -g 60 -b:v 2500k -c:a aac -b:a 128k",
    `-f flv ${rtmpUrl(stream)}`,
  ].join(" ");
}
