import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { root } from "../package/programs.js";
import { readPages } from "./documents.js";

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

for (const { file, text } of readPages()) {
  test(`${file} links to what exists`, () => {
    for (const [, target] of text.matchAll(/\]\(([^)\s]+)\)/g)) {
      if (target === undefined || /^[a-z]+:/.test(target)) continue;
      const [name, anchor] = target.split("#");
      const linked = name ? path.resolve(root, path.dirname(file), name) : path.join(root, file);
      assert.ok(existsSync(linked), `${target} in ${file}`);
      if (anchor) assert.ok(anchors(readFileSync(linked, "utf8")).has(anchor), `${target} in ${file}`);
    }
  });

  test(`${file} has no table cell of more than 200 characters`, () => {
    const cells = text
      .split("\n")
      .filter((line) => line.startsWith("|"))
      .flatMap((line) => line.split("|"));
    assert.deepEqual(
      cells.filter((cell) => cell.length > 200),
      [],
    );
  });
}
