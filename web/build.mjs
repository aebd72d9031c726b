// Builds the browser pages into `dist/`: the page itself, and beside it `assets/` with everything it loads.
// The name of every asset holds a hash of its content, so the server may let browsers keep assets for ever.
// Does not type-check (`npm run check` does), and fetches nothing.

import { readFile, rm, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const root = dirname(fileURLToPath(import.meta.url));
const dist = join(root, "dist");

await rm(dist, { recursive: true, force: true });

const result = await build({
  absWorkingDir: root,
  entryPoints: [
    { in: "src/main.tsx", out: "player" },
    { in: "src/player.css", out: "player" },
    { in: "src/favicon.svg", out: "favicon" },
  ],
  outdir: "dist/assets",
  entryNames: "[name]-[hash]",
  chunkNames: "[name]-[hash]",
  loader: { ".svg": "copy" },
  bundle: true,
  // Each protocol's player library is a chunk of its own, loaded when that protocol is chosen.
  splitting: true,
  format: "esm",
  target: ["es2020", "safari15"],
  minify: true,
  legalComments: "linked",
  metafile: true,
  logLevel: "warning",
});

const outputs = Object.entries(result.metafile.outputs);

/** The address of the asset that the given source became. */
function address(source) {
  const found = outputs.find(([, output]) => output.entryPoint === source);
  if (!found) throw new Error(`no output for ${source}`);
  return `/assets/${basename(found[0])}`;
}

const addresses = {
  script: address("src/main.tsx"),
  style: address("src/player.css"),
  icon: address("src/favicon.svg"),
};
const template = await readFile(join(root, "src/player.html"), "utf8");
const page = template.replace(/\{\{(\w+)\}\}/g, (_, name) => {
  if (!(name in addresses)) throw new Error(`player.html names an unknown asset: ${name}`);
  return addresses[name];
});
await writeFile(join(dist, "player.html"), page);

for (const [path, output] of outputs) {
  console.log(`${String(output.bytes).padStart(8)}  ${path}`);
}
