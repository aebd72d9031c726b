// The browser side of the end-to-end tests: opens the player page in a headless Chromium and reports, in JSON lines on
// the standard output, what a viewer would see. Judges nothing: the test that runs it does.
//
//   node test/player.mjs --url URL [--seconds 10] [--latency-max MS] [--screenshot FILE] [--width 1280] [--height 800]
//       [--color dark|light]
//     Waits for the picture to move, watches for that long, and on until it is no further behind live than that, if it
//     gets there in time; prints one line. Exit code 1 if no picture ever moved.
//
//   node test/player.mjs --url URL --watch
//     Prints one line each 250 ms until the standard input ends. `picture` is a hash of the decoded picture: it changes
//     while the picture moves, and stays while it is frozen.
//
//   node test/player.mjs --url URL --rewind SECONDS [--screenshot FILE]
//     Moves the rewind bar back once the stream is long enough, then back to live. Prints one line with the state after
//     each, once the picture moves there. The screenshot is of the past.
//
//   node test/player.mjs --url URL --look [--screenshot FILE]
//     Prints one line with what the page says once the server has answered it. For pages without a picture.

import { parseArgs } from "node:util";
import { launch, sleep } from "./browser.mjs";

/** Between two lines of `--watch`, and between two looks at the picture. */
const SAMPLE_INTERVAL_MS = 250;

/** The first picture must be there by then: a key frame interval of ten seconds, and the start of a browser. */
const START_TIMEOUT_MS = 30_000;

/** Players that start late, on a busy machine, catch up by playing a little faster. */
const CATCH_UP_TIMEOUT_MS = 40_000;

/** Until the stream is long enough to go back in: it grows with time. */
const REWIND_TIMEOUT_MS = 90_000;

const { values: options } = parseArgs({
  options: {
    url: { type: "string" },
    seconds: { type: "string", default: "10" },
    screenshot: { type: "string" },
    width: { type: "string", default: "1280" },
    height: { type: "string", default: "800" },
    color: { type: "string", default: "dark" },
    watch: { type: "boolean", default: false },
    look: { type: "boolean", default: false },
    rewind: { type: "string" },
    "latency-max": { type: "string", default: "Infinity" },
  },
});
if (!options.url) {
  console.error("usage: player.mjs --url URL [--seconds N] [--screenshot FILE] [--watch | --look | --rewind N]");
  process.exit(2);
}

const browser = await launch();
try {
  const page = await browser.newPage({
    viewport: { width: Number(options.width), height: Number(options.height) },
    colorScheme: options.color,
  });
  const pageErrors = [];
  page.on("pageerror", (error) => pageErrors.push(String(error)));
  page.on("console", (message) => {
    // Refusals of the content security policy and failed imports arrive here; failed requests are part of every outage.
    if (message.type() === "error" && !message.text().startsWith("Failed to load resource")) pageErrors.push(message.text());
  });
  await page.goto(options.url);
  await page.waitForFunction(() => window.weir !== undefined);
  if (options.watch) await watch(page);
  else if (options.look) await look(page, pageErrors);
  else if (options.rewind) await rewind(page, pageErrors);
  else await measure(page, pageErrors);
} finally {
  await browser.close();
}

/** One line per sample until the standard input ends. */
async function watch(page) {
  let ended = false;
  process.stdin.on("end", () => (ended = true)).resume();
  while (!ended) {
    const startedMs = Date.now();
    const { wallMs, picture, state } = await sample(page);
    console.log(JSON.stringify({ wallMs, currentTime: state.currentTime, picture, ...state }));
    await sleep(SAMPLE_INTERVAL_MS - (Date.now() - startedMs));
  }
}

/** One line about a page that does not play. */
async function look(page, pageErrors) {
  await page.waitForSelector("h1");
  const text = await page.evaluate(() => document.body.innerText);
  if (options.screenshot) await page.screenshot({ path: options.screenshot });
  console.log(JSON.stringify({ text, pageErrors }));
}

/** One line about a viewer who goes back in time, and returns. */
async function rewind(page, pageErrors) {
  const bar = page.getByRole("slider", { name: "Rewind" });
  const reaches = (seconds) => Number(document.querySelector(".rewind input")?.min ?? 0) <= -seconds;
  await page.waitForFunction(reaches, Number(options.rewind), { timeout: REWIND_TIMEOUT_MS });
  await bar.fill(`-${options.rewind}`);
  const past = await settled(page, true);
  await page.locator(".screen").hover();
  const { ariaValueText } = await bar.evaluate(({ ariaValueText }) => ({ ariaValueText }));
  if (options.screenshot) await page.screenshot({ path: options.screenshot });
  await page.getByRole("button", { name: "Back to live" }).click();
  await settled(page, false);
  const live = await caughtUp(page);
  console.log(JSON.stringify({ past, live, ariaValueText, pageErrors }));
}

/** The state once the picture moves where the viewer wants to be. */
async function settled(page, isRewound) {
  const moves = (isRewound) => {
    const { playing, rewoundSeconds, latencyMs } = window.weir.state();
    return playing && latencyMs !== null && (rewoundSeconds !== null) === isRewound;
  };
  await page.waitForFunction(moves, isRewound, { timeout: START_TIMEOUT_MS });
  return page.evaluate(() => window.weir.state());
}

/** The state once the picture is no further behind live than it may be, or when it has had time enough for that. */
async function caughtUp(page) {
  const isClose = (max) => window.weir.state().latencyMs <= max;
  const close = page.waitForFunction(isClose, Number(options["latency-max"]), { timeout: CATCH_UP_TIMEOUT_MS });
  await close.catch(() => {});
  return page.evaluate(() => window.weir.state());
}

/** One line about some seconds of playing. */
async function measure(page, pageErrors) {
  const started = await page
    .waitForFunction(() => window.weir.state().playing, undefined, { timeout: START_TIMEOUT_MS })
    .then(() => true, () => false);
  const first = await sample(page);
  let last = first;
  let framesMoved = 0;
  while (started && last.wallMs - first.wallMs < Number(options.seconds) * 1000) {
    await sleep(SAMPLE_INTERVAL_MS);
    const next = await sample(page);
    if (next.picture !== null && next.picture !== last.picture) framesMoved += 1;
    last = next;
  }
  const { latencyMs } = started ? await caughtUp(page) : last.state;
  if (options.screenshot) await page.screenshot({ path: options.screenshot });
  console.log(
    JSON.stringify({
      started,
      seconds: (last.wallMs - first.wallMs) / 1000,
      currentTimeStart: first.state.currentTime,
      currentTimeEnd: last.state.currentTime,
      // Of the pictures looked at, those that differed from the one before.
      framesMoved,
      framesDecoded: last.state.decodedFrames - first.state.decodedFrames,
      pageErrors,
      // Wider than the viewport: the page scrolls sideways, which no phone should.
      pageWidth: await page.evaluate(() => document.documentElement.scrollWidth),
      ...last.state,
      latencyMs,
    }),
  );
  if (!started) process.exitCode = 1;
}

/** The state of the player, and a hash of the picture that it shows (null while there is none). */
function sample(page) {
  return page.evaluate(() => {
    const video = document.querySelector("video");
    let picture = null;
    if (video && video.readyState >= HTMLMediaElement.HAVE_CURRENT_DATA && video.videoWidth > 0) {
      // Small enough to be cheap, large enough that a moving object changes some pixel.
      const canvas = document.createElement("canvas");
      canvas.width = 64;
      canvas.height = 36;
      const context = canvas.getContext("2d", { willReadFrequently: true });
      context.drawImage(video, 0, 0, canvas.width, canvas.height);
      const pixels = new Uint32Array(context.getImageData(0, 0, canvas.width, canvas.height).data.buffer);
      // FNV-1a over 32-bit words.
      let hash = 0x811c9dc5;
      for (const pixel of pixels) hash = Math.imul(hash ^ pixel, 0x01000193);
      picture = (hash >>> 0).toString(16).padStart(8, "0");
    }
    return { wallMs: Date.now(), picture, state: window.weir.state() };
  });
}
