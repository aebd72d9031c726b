// The examples of docs/players.md in a headless Chromium, each in a browser context of its own, all at the same time.
// Judges nothing: prints one line of JSON with what was seen of each.
//
//   node test/snippets.mjs --origin http://127.0.0.1:8080 [--stream demo] [--seconds 60] [--timecode] [NAME...]
//
// A NAME is the heading of an example, such as "hls.js, low latency"; without any, all of them. `--timecode` reads the
// time code that scripts/latency.py puts into the picture.

import { readFile } from "node:fs/promises";
import { basename } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { launch, sleep } from "./browser.mjs";
import { observe } from "./observe.mjs";

/** The server and stream of the examples. */
const EXAMPLE_ORIGIN = "http://localhost:8080";
const EXAMPLE_STREAM = "demo";

/** The files that the examples load; they name the folder too, for readers. */
const LIBRARIES = [
  "hls.js/dist/hls.min.js",
  "dashjs/dist/modern/umd/dash.all.min.js",
  "shaka-player/dist/shaka-player.compiled.js",
  "mpegts.js/dist/mpegts.js",
];

/** Painting costs more than decoding where there is no graphics processor, and nobody looks. */
const VIEWPORT = { width: 160, height: 90 };

/** Each has its first picture by then: ten seconds of key frame interval, and many browsers on a busy machine. */
const START_TIMEOUT_MS = 45_000;

const { values: options, positionals: names } = parseArgs({
  allowPositionals: true,
  options: {
    origin: { type: "string" },
    stream: { type: "string", default: EXAMPLE_STREAM },
    seconds: { type: "string", default: "60" },
    timecode: { type: "boolean", default: false },
  },
});
if (!options.origin) {
  console.error("usage: snippets.mjs --origin ORIGIN [--stream NAME] [--seconds N] [--timecode] [NAME...]");
  process.exit(2);
}

const examples = await readExamples();
const chosen = names.length === 0 ? [...examples.keys()] : names;
const browser = await launch();
try {
  const seen = await Promise.all(chosen.map((name) => watch(name)));
  console.log(JSON.stringify(Object.fromEntries(chosen.map((name, at) => [name, seen[at]]))));
} finally {
  await browser.close();
}

/** The HTML of each example, by its heading. */
async function readExamples() {
  const text = await readFile(new URL("../../docs/players.md", import.meta.url), "utf8");
  const found = new Map();
  for (const section of text.split(/^## /m).slice(1)) {
    const html = /^```html\n(.*?)^```/ms.exec(section)?.[1];
    if (html) found.set(section.slice(0, section.indexOf("\n")), html);
  }
  return found;
}

/** What is seen of one example. */
async function watch(name) {
  const html = examples.get(name);
  if (!html) throw new Error(`docs/players.md has no example "${name}"`);
  // Connections are limited for each browser, not for each page: six to a server, and each player wants four.
  const context = await browser.newContext({ viewport: VIEWPORT });
  const page = await context.newPage();
  const pageErrors = [];
  page.on("pageerror", (error) => pageErrors.push(String(error)));
  await page.route(/\/example\//, (route) => answer(route, html));
  await page.goto(`${options.origin}/example/page.html`);
  await page.evaluate(observe, { timecode: options.timecode });
  const started = await page
    .waitForFunction(() => window.observed.startedMs !== null, undefined, { timeout: START_TIMEOUT_MS })
    .then(() => true, () => false);
  if (started) await sleep(Number(options.seconds) * 1000);
  const seen = await page.evaluate(() => window.observed.report());
  await context.close();
  return { started, pageErrors, ...seen };
}

/** Serves the example, with the address of the server under test, and the libraries from node_modules. */
async function answer(route, html) {
  const file = basename(new URL(route.request().url()).pathname);
  const library = LIBRARIES.find((path) => basename(path) === file);
  if (library) {
    await route.fulfill({ path: fileURLToPath(new URL(`../node_modules/${library}`, import.meta.url)) });
  } else if (file === "page.html") {
    const body = html
      .replaceAll(EXAMPLE_ORIGIN, options.origin)
      .replaceAll(`/live/${EXAMPLE_STREAM}`, `/live/${options.stream}`);
    await route.fulfill({ contentType: "text/html", body: `<!doctype html>\n${body}` });
  } else {
    await route.abort();
  }
}
