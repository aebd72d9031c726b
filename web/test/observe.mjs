// What a page that plays a video looks like from inside. `observe` runs in the page, so it uses nothing of this module.

/**
 * Watches the first video element and the global `player` of the page from now on, in `window.observed`.
 * `timecode`: the picture carries its time, as scripts/latency.py paints it.
 */
export function observe({ timecode }) {
  /** The first seconds are those of a player that finds its place. */
  const SETTLE_MS = 10_000;
  /** A picture that stands this long stands still: longer than the longest frame of a 2 fps stream. */
  const STALL_MS = 700;
  const SAMPLE_MS = 100;
  /** The time code: bits across the top of the picture. */
  const CODE_BITS = 32;
  const CODE_ROW = 0.5;
  const CODE_HEIGHT = 20;

  const video = document.querySelector("video");
  const errors = [];
  const warnings = new Map();
  const glassMs = [];
  let unreadable = 0;
  let waits = 0;
  let stalls = 0;
  let firstTime = 0;
  let lastTime = 0;
  let lastMoveMs = 0;
  let standing = false;
  let rateMax = 1;

  const observed = { startedMs: null, report };
  window.observed = observed;
  listen();
  video.addEventListener("waiting", () => {
    if (observed.startedMs !== null) waits += 1;
  });
  setInterval(sample, SAMPLE_MS);
  if (timecode) readFrames();

  /** Collects the errors of whichever library it is. */
  function listen() {
    const note = (word) => warnings.set(word, (warnings.get(word) ?? 0) + 1);
    if (window.Hls) {
      player.on(Hls.Events.ERROR, (_, error) => (error.fatal ? errors.push(error.details) : note(error.details)));
    } else if (window.dashjs) {
      player.on("error", ({ error }) => errors.push(`${error?.code}: ${error?.message}`));
    } else if (window.shaka) {
      const { CRITICAL } = shaka.util.Error.Severity;
      player.addEventListener("error", ({ detail }) =>
        detail.severity === CRITICAL ? errors.push(`shaka ${detail.code}`) : note(`shaka ${detail.code}`));
    } else if (window.mpegts) {
      player.on(mpegts.Events.ERROR, (type, detail) => errors.push(`${type}: ${detail}`));
    }
  }

  function sample() {
    const nowMs = performance.now();
    if (video.currentTime !== lastTime && video.readyState >= HTMLMediaElement.HAVE_CURRENT_DATA) {
      if (!video.paused && lastTime > 0 && observed.startedMs === null) {
        observed.startedMs = nowMs;
        firstTime = video.currentTime;
      }
      lastTime = video.currentTime;
      lastMoveMs = nowMs;
      standing = false;
      rateMax = Math.max(rateMax, video.playbackRate);
    } else if (observed.startedMs !== null && nowMs - lastMoveMs > STALL_MS && !standing) {
      standing = true;
      stalls += 1;
    }
  }

  /** Reads the time code of each frame that is shown. */
  function readFrames() {
    const canvas = document.createElement("canvas");
    const context = canvas.getContext("2d", { willReadFrequently: true });
    const read = () => {
      video.requestVideoFrameCallback(read);
      const nowMs = Date.now();
      canvas.width = video.videoWidth;
      canvas.height = CODE_HEIGHT;
      context.drawImage(video, 0, 0, canvas.width, CODE_HEIGHT, 0, 0, canvas.width, CODE_HEIGHT);
      const row = context.getImageData(0, Math.floor(CODE_HEIGHT * CODE_ROW), canvas.width, 1).data;
      let word = 0;
      for (let bit = 0; bit < CODE_BITS; bit += 1) {
        const x = Math.floor(((bit + 0.5) * canvas.width) / CODE_BITS);
        word = word * 2 + (row[4 * x] > 127 ? 1 : 0);
      }
      // 24 bits of milliseconds, and the sum of their three bytes, inverted.
      const [a, b, c, check] = [24, 16, 8, 0].map((shift) => Math.floor(word / 2 ** shift) % 256);
      if (((a + b + c) & 255) !== 255 - check) {
        unreadable += 1;
      } else if (observed.startedMs !== null && performance.now() - observed.startedMs > SETTLE_MS) {
        const sentMs = (a * 256 + b) * 256 + c;
        glassMs.push(((nowMs % 2 ** 24) - sentMs + 2 ** 24) % 2 ** 24);
      }
    };
    video.requestVideoFrameCallback(read);
  }

  function report() {
    const frames = video.getVideoPlaybackQuality();
    glassMs.sort((a, b) => a - b);
    const part = (share) => glassMs[Math.min(glassMs.length - 1, Math.floor(glassMs.length * share))] ?? null;
    return {
      errors,
      warnings: Object.fromEntries(warnings),
      stalls,
      waits,
      rateMax,
      advancedSeconds: video.currentTime - firstTime,
      mediaError: video.error?.message ?? null,
      decodedFrames: frames.totalVideoFrames,
      droppedFrames: frames.droppedVideoFrames,
      glass: timecode ? { frames: glassMs.length, unreadable, p50: part(0.5), p95: part(0.95), max: part(1) } : null,
    };
  }
}
