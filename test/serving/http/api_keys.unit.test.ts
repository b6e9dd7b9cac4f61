import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import { ShardspeedError } from "../../../dist/base/errors.js";
import { KeyRing, parseKeys, readKeys } from "../../../dist/serving/http/api_keys.js";

const all = ["inference", "management", "metrics"];
const ringOf = (text: string) => new KeyRing(parseKeys(text, "keys"));
const fails = (pattern: RegExp) => (error: unknown) =>
  ShardspeedError.isInstance(error) && error.code === "ERR_CONFIG" && pattern.test(error.message);

test("lines have a key, a name before it and scopes behind it", () => {
  const ring = ringOf(
    "# all of them\r\nsk-one\n  alice:sk-two inference,metrics  # hers\n\nbob:sk:three management\nsk#4 inference metrics\n",
  );
  assert.equal(ring.size, 4);
  assert.deepEqual(ring.find("sk-one"), { name: "key 1", scopes: all });
  assert.deepEqual(ring.find("sk-two"), { name: "alice", scopes: ["inference", "metrics"] });
  assert.deepEqual(ring.find("sk:three"), { name: "bob", scopes: ["management"] });
  assert.deepEqual(ring.find("sk#4"), { name: "key 4", scopes: ["inference", "metrics"] });
  for (const wrong of ["", "sk-on", "sk-one ", "SK-ONE", "alice:sk-two", "# all of them"])
    assert.equal(ring.find(wrong), undefined, wrong);
});

test("JSON is a list, alone or as keys, of texts and objects", () => {
  const list = '["a1", {"key": "b2", "name": "bob", "scopes": ["management"]}]';
  for (const text of [list, `\n{"keys": ${list}}`]) {
    assert.deepEqual(ringOf(text).find("a1")?.scopes, all);
    assert.deepEqual(ringOf(text).find("b2"), { name: "bob", scopes: ["management"] });
  }
});

test("TorchServe's key file opens its two APIs, until it expires", () => {
  const text = JSON.stringify({
    management: { key: "B-E5KSRM", "expiration time": "2024-02-16T21:12:24.801167Z" },
    inference: { key: "gNRuA7dS" },
    API: { key: "yv9uQajP" },
  });
  const ring = ringOf(text);
  const end = Date.parse("2024-02-16T21:12:24.801Z");
  assert.deepEqual(ring.find("B-E5KSRM", end - 1)?.scopes, ["management", "metrics"]);
  assert.equal(ring.find("B-E5KSRM", end), undefined);
  assert.deepEqual(ring.find("gNRuA7dS"), { name: "inference", scopes: ["inference", "metrics"] });
  assert.equal(ring.find("yv9uQajP"), undefined);
});

test("what is wrong is said without a key in the message", () => {
  for (const [text, pattern] of [
    ["", /at least one API key/],
    ["# none\n", /at least one API key/],
    ["[]", /at least one API key/],
    ["secret-key admin", /^keys:1: expected scopes among inference, management, metrics/],
    ['["secret-key"', /is not JSON/],
    ['{"secret-key": 1}', /a list of keys/],
    ['[{"name": "secret-key"}]', /key 1: expected text, or an object with "key"/],
    ['[{"key": "secret-key", "scopes": "inference"}]', /a list as scopes/],
    ['["secret-key with blanks"]', /without blanks/],
    ["secret-keyé", /printable ASCII/],
    ['{"inference": {"key": "secret-key", "expiration time": "soon"}}', /a date/],
  ] as const) {
    assert.throws(
      () => ringOf(text),
      (error: Error) => fails(pattern)(error) && !error.message.includes("secret-key"),
      text,
    );
  }
});

test("any text is keys or a typed error", () => {
  const piece = fc.constantFrom(
    "[",
    "{",
    '"key"',
    ":",
    ",",
    "}",
    "]",
    "\n",
    "#",
    " ",
    "inference",
    '"inference"',
    "a",
    "é",
  );
  fc.assert(
    fc.property(fc.array(fc.oneof(piece, fc.string())), (pieces) => {
      try {
        assert.ok(parseKeys(pieces.join(""), "keys").length > 0);
      } catch (error) {
        assert.ok(ShardspeedError.isInstance(error), String(error));
      }
    }),
  );
});

test("keys come from the file and the environment, or authorization is off", async () => {
  const folder = mkdtempSync(path.join(tmpdir(), "shardspeed-keys-"));
  try {
    const apiKeyFile = path.join(folder, "keys.txt");
    writeFileSync(apiKeyFile, "\uFEFFfrom-file inference\n");
    const both = await readKeys({ apiKeyFile, apiKey: "from-environment", disableTokenAuthorization: false });
    assert.deepEqual(both?.find("from-environment"), { name: "SHARDSPEED_API_KEY", scopes: all });
    assert.deepEqual(both?.find("from-file")?.scopes, ["inference"]);
    assert.equal(await readKeys({ apiKeyFile, apiKey: "a", disableTokenAuthorization: true }), undefined);
    const none = { apiKeyFile: undefined, apiKey: undefined, disableTokenAuthorization: false };
    assert.equal(await readKeys(none), undefined);
    await assert.rejects(readKeys({ ...none, apiKeyFile: path.join(folder, "gone") }), fails(/There is no file/));
    await assert.rejects(readKeys({ ...none, apiKeyFile: folder }), fails(/expected a regular file/));
  } finally {
    rmSync(folder, { recursive: true });
  }
});
