import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { describe, test } from "node:test";
import { root } from "../package/programs.js";

const files = [
  ...["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "models/demo/README.md", "bench/README.md"].filter((file) =>
    existsSync(path.join(root, file)),
  ),
  ...readdirSync(path.join(root, "docs"))
    .filter((name) => name.endsWith(".md"))
    .map((name) => `docs/${name}`),
];

/** The anchors that a Markdown file's headings get. */
function anchors(markdown: string): Set<string> {
  const headings = [...markdown.matchAll(/^#+ (.*)$/gm)].map((match) => match[1] ?? "");
  return new Set(
    headings.map((heading) =>
      heading
        .toLowerCase()
        .replace(/[^\w\- ]/g, "")
        .replaceAll(" ", "-"),
    ),
  );
}

for (const file of files) {
  const text = readFileSync(path.join(root, file), "utf8");
  describe(file, () => {
    test("links to what exists", () => {
      for (const [, target] of text.matchAll(/\]\(([^)\s]+)\)/g)) {
        if (target === undefined || /^[a-z]+:/.test(target)) continue;
        const [name, anchor] = target.split("#");
        const linked = name ? path.resolve(root, path.dirname(file), name) : path.join(root, file);
        // Made by `npm run docs`, and not kept.
        if (linked.startsWith(path.join(root, "docs/api"))) continue;
        assert.ok(existsSync(linked), `${target} in ${file}`);
        if (anchor) assert.ok(anchors(readFileSync(linked, "utf8")).has(anchor), `${target} in ${file}`);
      }
    });

    test("names npm scripts that exist", () => {
      const { scripts } = JSON.parse(readFileSync(path.join(root, "package.json"), "utf8"));
      for (const [, script] of text.matchAll(/npm run ([\w:-]+)/g)) {
        assert.ok(script !== undefined && script in scripts, `npm run ${script} in ${file}`);
      }
    });
  });
}
