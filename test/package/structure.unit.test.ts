import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { describe, test } from "node:test";
import { root } from "./programs.js";

// Arrows between the rooms of the house: imports in lib/, type imports among them, and includes in src/, binding/ and cuda/.
// docs/architecture.md says what each room is for.

/** A file, and the files that it imports or includes; paths from the top of the package. */
type Arrows = ReadonlyMap<string, readonly string[]>;

/** Rooms from the lowest floor up. A room may import those of lower floors. */
const floors: readonly (readonly string[])[] = [
  ["lib/base"],
  ["lib/native"],
  [
    ...["lib/checkpoint", "lib/deepspeed_config", "lib/torchserve_config", "lib/tokenizer"],
    // Ranks meet while a model is loaded: so launch is below loading.
    ...["lib/models", "lib/shards", "lib/engine", "lib/launch", "lib/bench", "lib/format"],
  ],
  ["lib/loading"],
  ["lib/handler", "lib/archive"],
  ["lib/serving"],
  ["lib/cli"],
  ["lib/index.ts"],
  ["src/base"],
  // The headers beside the folders are what a backend is asked for, in terms of the model.
  ["src/model", "src/*.h"],
  ["src/comm", "src/cpu", "src/grammar", "cuda"],
  ["src/runtime"],
  ["binding"],
];

/** Arrows within a floor, each one way. */
const sideways: readonly string[] = [
  "lib/models -> lib/checkpoint",
  "lib/shards -> lib/checkpoint",
  "lib/shards -> lib/models",
  "lib/engine -> lib/tokenizer",
  "lib/engine -> lib/format",
  "lib/archive -> lib/handler",
  "src/model -> src/*.h",
  "src/*.h -> src/model",
  "src/cpu -> src/comm",
  "cuda -> src/comm",
];

function roomOf(file: string): string {
  const [top = "", second = ""] = file.split("/");
  if (top === "src" && second.endsWith(".h")) return "src/*.h";
  return top === "lib" || top === "src" ? `${top}/${second}` : top;
}

/** Arrows that lead up, or sideways where no arrow is planned; "from -> to" by file. */
function findWrongArrows(arrows: Arrows): string[] {
  const floorOf = (file: string) => floors.findIndex((rooms) => rooms.includes(roomOf(file)));
  return [...arrows].flatMap(([from, targets]) =>
    targets
      .filter((to) => {
        if (roomOf(from) === roomOf(to)) return false;
        const [above, below] = [floorOf(from), floorOf(to)];
        const allowed = above === below ? sideways.includes(`${roomOf(from)} -> ${roomOf(to)}`) : above > below;
        return above < 0 || below < 0 || !allowed;
      })
      .map((to) => `${from} -> ${to}`),
  );
}

/** Files that reach themselves, as one circle; undefined where there is none. */
function findCircle(arrows: Arrows): string[] | undefined {
  const done = new Set<string>();
  const visit = (file: string, trail: readonly string[]): string[] | undefined => {
    if (trail.includes(file)) return [...trail.slice(trail.indexOf(file)), file];
    if (done.has(file)) return undefined;
    for (const next of arrows.get(file) ?? []) {
      const circle = visit(next, [...trail, file]);
      if (circle !== undefined) return circle;
    }
    done.add(file);
    return undefined;
  };
  for (const file of arrows.keys()) {
    const circle = visit(file, []);
    if (circle !== undefined) return circle;
  }
  return undefined;
}

function listFiles(folder: string, ending: RegExp): string[] {
  return readdirSync(path.join(root, folder), { recursive: true, encoding: "utf8" })
    .filter((file) => ending.test(file))
    .map((file) => path.posix.join(folder, file.replaceAll(path.sep, "/")));
}

function readArrows(files: readonly string[], targetsOf: (file: string, text: string) => string[]): Arrows {
  return new Map(files.map((file) => [file, targetsOf(file, readFileSync(path.join(root, file), "utf8"))]));
}

const imports = readArrows(listFiles("lib", /\.ts$/), (file, text) =>
  [...text.matchAll(/(?:from|import)\s*\(?\s*"(\.[^"]+)\.js"/g)].map(([, target]) =>
    path.posix.join(path.posix.dirname(file), `${target}.ts`),
  ),
);

const sources = ["src", "binding", "cuda"].flatMap((folder) => listFiles(folder, /\.(h|cpp|inc|cu|cuh)$/));
const includes = readArrows(sources, (file, text) =>
  [...text.matchAll(/^#include "([^"]+)"/gm)].flatMap(([, target]) => {
    const places = [`src/${target}`, target as string, path.posix.join(path.posix.dirname(file), target as string)];
    const place = places.find((one) => existsSync(path.join(root, one)));
    // Of the emulator, which only test builds see.
    return place === undefined ? [] : [place];
  }),
);

describe("the way of the arrows", () => {
  test("is down, and planned", () => {
    const wrong = [...findWrongArrows(imports), ...findWrongArrows(includes)];
    assert.deepEqual(wrong.sort(), []);
  });

  test("never leads back to the file that it came from", () => {
    assert.equal(findCircle(imports), undefined);
    assert.equal(findCircle(includes), undefined);
  });

  test("was read: a file of each room, with what it imports", () => {
    assert.ok(imports.get("lib/base/errors.ts")?.includes("lib/base/text.ts"));
    assert.ok(imports.get("lib/engine/engine.ts")?.includes("lib/engine/session.ts"));
    assert.ok(includes.get("src/runtime/engine.h")?.some((file) => file.startsWith("src/")));
    const rooms = new Set([...imports.keys(), ...includes.keys()].map(roomOf));
    const planned = floors.flat().filter((room) => room === "src/*.h" || existsSync(path.join(root, room)));
    assert.deepEqual([...rooms].sort(), planned.sort());
  });

  test("is judged: up, sideways, and round in a circle", () => {
    const up = new Map([["lib/base/a.ts", ["lib/engine/b.ts"]]]);
    assert.deepEqual(findWrongArrows(up), ["lib/base/a.ts -> lib/engine/b.ts"]);
    const across = new Map([["lib/tokenizer/a.ts", ["lib/engine/b.ts", "lib/base/c.ts"]]]);
    assert.deepEqual(findWrongArrows(across), ["lib/tokenizer/a.ts -> lib/engine/b.ts"]);
    const unknown = new Map([["lib/attic/a.ts", ["lib/base/b.ts"]]]);
    assert.deepEqual(findWrongArrows(unknown), ["lib/attic/a.ts -> lib/base/b.ts"]);
    const circle = new Map([
      ["a", ["b"]],
      ["b", ["c"]],
      ["c", ["b"]],
    ]);
    assert.deepEqual(findCircle(circle), ["b", "c", "b"]);
  });
});

/** Rooms of docs/architecture.md's table, each with the last cell of its row. */
function documentedRooms(): Map<string, string> {
  const text = readFileSync(path.join(root, "docs/architecture.md"), "utf8");
  const rows = text.matchAll(/^\| `((?:lib|src)\/(?:\w+|\*\.h)|cuda|binding)` \| [^|]+ \|([^|]*)\|$/gm);
  return new Map([...rows].map(([, room, imported]) => [room as string, imported as string]));
}

/** The rooms that a cell of the table stands for. */
function readCell(cell: string, room: string, rooms: readonly string[]): Set<string> {
  const named = [...cell.matchAll(/`([^`]+)`/g)].map(([, name]) => (name as string).replace(/\/$/, ""));
  if (cell.includes("all rooms above")) {
    const above = rooms.slice(0, rooms.indexOf(room)).filter((one) => one.startsWith("lib/"));
    return new Set(above.filter((one) => !named.includes(one)));
  }
  if (cell.includes("all rooms of")) named.push(...rooms.filter((one) => one.startsWith("src/")));
  return new Set(named);
}

test("docs/architecture.md has each room, and what it imports", () => {
  const documented = documentedRooms();
  const rooms = [...documented.keys()];
  const folders = [...imports.keys(), ...includes.keys()].map(roomOf).filter((room) => room !== "lib/index.ts");
  assert.deepEqual([...rooms].sort(), [...new Set(folders)].sort());
  const missing: string[] = [];
  for (const [from, targets] of [...imports, ...includes]) {
    const cell = documented.get(roomOf(from));
    if (cell === undefined) continue;
    const allowed = readCell(cell, roomOf(from), rooms);
    for (const to of targets)
      if (roomOf(to) !== roomOf(from) && !allowed.has(roomOf(to))) missing.push(`${roomOf(from)} -> ${roomOf(to)}`);
  }
  assert.deepEqual([...new Set(missing)], []);
});

test("options are parsed without a file and without the addon", () => {
  for (const start of ["lib/loading/options.ts", "lib/engine/generation_options.ts"]) {
    const reached = new Set<string>();
    const visit = (file: string): void => {
      if (reached.has(file)) return;
      reached.add(file);
      imports.get(file)?.forEach(visit);
    };
    visit(start);
    assert.ok(!reached.has("lib/native/load.ts"), `${start} reaches the addon`);
    assert.ok(reached.size <= 16, `${start} reaches ${reached.size} files`);
  }
});
