// The browser side of the DASH tests: plays a manifest in a headless Chromium with dash.js or shaka-player as they come
// from npm, on a page that holds nothing but a video, and reports in one JSON line on the standard output what happened.
// Judges nothing: the test that runs it does.
//
//   node test/dash.mjs --url URL --player dashjs|shaka [--low-latency] [--seconds 30] [--screenshot FILE]
//     Waits for the picture to move and watches for that long. Exit code 1 if no picture ever moved.

import { parseArgs } from "node:util";
import { fileURLToPath } from "node:url";
import { launch, sleep } from "./browser.mjs";

/** Between two looks at the player. */
const SAMPLE_INTERVAL_MS = 250;

/** The first picture must be there by then: a key frame interval of ten seconds, and the start of a browser. */
const START_TIMEOUT_MS = 30_000;

const SCRIPTS = {
  dashjs: "../node_modules/dashjs/dist/modern/umd/dash.all.min.js",
  shaka: "../node_modules/shaka-player/dist/shaka-player.compiled.js",
};

const { values: options } = parseArgs({
  options: {
    url: { type: "string" },
    player: { type: "string" },
    "low-latency": { type: "boolean", default: false },
    seconds: { type: "string", default: "30" },
    screenshot: { type: "string" },
  },
});
if (!options.url || !(options.player in SCRIPTS)) {
  console.error("usage: dash.mjs --url URL --player dashjs|shaka [--low-latency] [--seconds N] [--screenshot FILE]");
  process.exit(2);
}

const browser = await launch();
try {
  const page = await browser.newPage({ viewport: { width: 640, height: 360 } });
  const requests = new Map();
  const refusals = [];
  page.on("response", (response) => {
    const url = response.url();
    if (url.endsWith(".m4s")) requests.set(url, (requests.get(url) ?? 0) + 1);
    if (response.status() >= 400) refusals.push(`${response.status()} ${url}`);
  });
  // A page of the server's own origin, so that nothing but the player is tested.
  const pageUrl = new URL("/dash-test", options.url).href;
  const html = "<!doctype html><style>body{margin:0}video{width:100vw}</style><video muted autoplay></video>";
  await page.route(pageUrl, (route) => route.fulfill({ contentType: "text/html", body: html }));
  await page.goto(pageUrl);
  await page.addScriptTag({ path: fileURLToPath(new URL(SCRIPTS[options.player], import.meta.url)) });
  await page.evaluate(options.player === "dashjs" ? playWithDashJs : playWithShaka, {
    url: options.url,
    lowLatency: options["low-latency"],
  });
  await measure(page, requests, refusals);
} finally {
  await browser.close();
}

/** In the page: plays, and leaves `window.watched` behind. */
function playWithDashJs({ url, lowLatency }) {
  const video = document.querySelector("video");
  const watched = { errors: [], stalls: 0 };
  window.watched = watched;
  const player = window.dashjs.MediaPlayer().create();
  player.on(window.dashjs.MediaPlayer.events.ERROR, ({ error }) => watched.errors.push(`${error.code} ${error.message}`));
  player.initialize(video, url, true);
  // Whether the latency is low is up to the manifest.
  if (!lowLatency) player.updateSettings({ streaming: { delay: { useSuggestedPresentationDelay: true, liveDelay: 6 } } });
}

/** In the page: as `playWithDashJs`. */
async function playWithShaka({ url, lowLatency }) {
  const video = document.querySelector("video");
  const player = new window.shaka.Player();
  const watched = { errors: [], stalls: 0 };
  window.watched = watched;
  player.addEventListener("error", ({ detail }) => watched.errors.push(`${detail.code} ${detail.data}`));
  await player.attach(video);
  player.configure({ streaming: { lowLatencyMode: lowLatency } });
  await player.load(url);
}

/** One line about some seconds of playing. */
async function measure(page, requests, refusals) {
  const started = await page
    .waitForFunction(hasStarted, undefined, { timeout: START_TIMEOUT_MS })
    .then(() => true, () => false);
  await page.evaluate(() => document.querySelector("video").addEventListener("waiting", () => (window.watched.stalls += 1)));
  const first = await sample(page);
  const latenciesMs = [];
  const buffersMs = [];
  let last = first;
  while (started && last.wallMs - first.wallMs < Number(options.seconds) * 1000) {
    await sleep(SAMPLE_INTERVAL_MS);
    last = await sample(page);
    latenciesMs.push(last.latencyMs);
    buffersMs.push(last.bufferMs);
  }
  if (options.screenshot) await page.screenshot({ path: options.screenshot });
  console.log(
    JSON.stringify({
      started,
      seconds: (last.wallMs - first.wallMs) / 1000,
      advancedS: last.currentTime - first.currentTime,
      framesDecoded: last.frames - first.frames,
      framesDropped: last.dropped - first.dropped,
      stalls: last.stalls,
      errors: last.errors,
      refusals,
      segments: requests.size,
      // Segments that were fetched more than once.
      repeated: [...requests.values()].filter((count) => count > 1).length,
      latencyMs: spread(latenciesMs),
      bufferMs: spread(buffersMs),
    }),
  );
  if (!started) process.exitCode = 1;
}

/** In the page: whether the picture has moved. */
function hasStarted() {
  return document.querySelector("video").getVideoPlaybackQuality().totalVideoFrames > 10;
}

function sample(page) {
  return page.evaluate(() => {
    const video = document.querySelector("video");
    const quality = video.getVideoPlaybackQuality();
    const { buffered, currentTime } = video;
    return {
      wallMs: Date.now(),
      currentTime,
      frames: quality.totalVideoFrames,
      dropped: quality.droppedVideoFrames,
      // The time of the presentation is that of the wall clock when the server received it.
      latencyMs: Math.round(Date.now() - currentTime * 1000),
      bufferMs: buffered.length > 0 ? Math.round((buffered.end(buffered.length - 1) - currentTime) * 1000) : 0,
      stalls: window.watched.stalls,
      errors: window.watched.errors,
    };
  });
}

/** Least, median, 95th percentile and greatest of some numbers. */
function spread(numbers) {
  const sorted = [...numbers].sort((a, b) => a - b);
  const at = (part) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? null;
  return { min: at(0), p50: at(0.5), p95: at(0.95), max: at(1) };
}
