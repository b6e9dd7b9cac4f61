import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { root } from "../package/programs.js";

// The files of lib/ and what they import, types included.

const lib = path.join(root, "lib");
const imports = new Map<string, string[]>();
for (const file of readdirSync(lib, { recursive: true, encoding: "utf8" })) {
  if (!file.endsWith(".ts")) continue;
  const text = readFileSync(path.join(lib, file), "utf8");
  const found = [...text.matchAll(/\bfrom "(\.[^"]+)"|\bimport\("(\.[^"]+)"\)|^import "(\.[^"]+)"/gm)];
  const targets = found.map((match) => path.join(path.dirname(file), (match[1] ?? match[2] ?? match[3]) as string));
  imports.set(
    file,
    targets.map((target) => target.replace(/\.js$/, ".ts")),
  );
}

/** A way from a node back to itself, if there is one. */
function findCircle(graph: ReadonlyMap<string, Iterable<string>>): string[] | undefined {
  const done = new Set<string>();
  const visit = (node: string, way: readonly string[]): string[] | undefined => {
    const start = way.indexOf(node);
    if (start >= 0) return [...way.slice(start), node];
    if (done.has(node)) return undefined;
    for (const next of graph.get(node) ?? []) {
      const circle = visit(next, [...way, node]);
      if (circle !== undefined) return circle;
    }
    done.add(node);
    return undefined;
  };
  for (const node of graph.keys()) {
    const circle = visit(node, []);
    if (circle !== undefined) return circle;
  }
  return undefined;
}

test("files of lib/ import each other in one direction", () => {
  assert.ok(imports.size > 100);
  for (const [file, targets] of imports) {
    for (const target of targets) assert.ok(imports.has(target), `${file} imports ${target}, which is not there`);
  }
  assert.equal(findCircle(imports)?.join(" -> "), undefined);
});

test("and so do its rooms", () => {
  const roomOf = (file: string) => (file.includes(path.sep) ? (file.split(path.sep)[0] as string) : "index");
  const rooms = new Map<string, Set<string>>();
  for (const [file, targets] of imports) {
    const room = roomOf(file);
    const others = rooms.get(room) ?? new Set();
    for (const target of targets) if (roomOf(target) !== room) others.add(roomOf(target));
    rooms.set(room, others);
  }
  assert.equal(findCircle(rooms)?.join(" -> "), undefined);
});

test("a circle is found", () => {
  assert.deepEqual(
    findCircle(
      new Map([
        ["a", ["b"]],
        ["b", ["c", "d"]],
        ["c", []],
        ["d", ["b"]],
      ]),
    ),
    ["b", "d", "b"],
  );
});
