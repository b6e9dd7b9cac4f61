import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { after, before, describe, test } from "node:test";
import fc from "fast-check";
import {
  type Answer,
  type Banner,
  connectionKey,
  deriveSessionKey,
  formatAnswer,
  formatBanner,
  formatHello,
  groupName,
  type Hello,
  isTrueAnswer,
  isTrueHello,
  makeNonce,
  parseAnswer,
  parseBanner,
  parseHello,
  protocolVersion,
  Seal,
} from "../../dist/launch/handshake.js";
import { Wire } from "../../dist/launch/wire.js";

const secret = Buffer.from("the secret of these tests");
const otherSecret = Buffer.from("the secret of some others");
const banner: Banner = { protocol: protocolVersion, group: groupName({ masterPort: 1 }), nonce: makeNonce() };
const said: Omit<Hello, "proof"> = { version: "1.0.0", rank: 3, worldSize: 4, nonce: makeNonce() };

describe("a hello", () => {
  const hello = parseHello(formatHello(secret, banner, said)) as Hello;

  test("is true where all of it is as it was said", () => {
    assert.deepEqual({ ...hello, proof: "" }, { ...said, proof: "" });
    assert.equal(isTrueHello(secret, banner, hello), true);
  });

  test("is not true with any part changed, to another host, or with another secret", () => {
    const changes: Partial<Hello>[] = [
      { version: "1.0.1" },
      { rank: 2 },
      { worldSize: 5 },
      { nonce: makeNonce() },
      { proof: "0".repeat(64) },
      { proof: `${hello.proof.slice(0, 62)}${hello.proof.endsWith("00") ? "01" : "00"}` },
      { proof: hello.proof.slice(0, 62) },
      { proof: "" },
    ];
    for (const change of changes)
      assert.equal(isTrueHello(secret, banner, { ...hello, ...change }), false, `${Object.keys(change)}`);
    assert.equal(isTrueHello(secret, { ...banner, nonce: makeNonce() }, hello), false);
    assert.equal(isTrueHello(secret, { ...banner, group: "0".repeat(16) }, hello), false);
    assert.equal(isTrueHello(otherSecret, banner, hello), false);
  });

  test("does not tell the secret", () => {
    const line = formatHello(secret, banner, said);
    for (const encoding of ["utf8", "hex", "base64"] as const) assert.ok(!line.includes(secret.toString(encoding)));
  });
});

test("an answer is true for the hello it answers, and says what it says", () => {
  for (const answer of [{ message: "" }, { refusal: "world", message: "four" }] as const) {
    const parsed = parseAnswer(formatAnswer(secret, banner, { ...said, proof: "" }, answer)) as Answer;
    assert.equal(parsed.refusal, "refusal" in answer ? answer.refusal : undefined);
    assert.equal(isTrueAnswer(secret, banner, said, parsed), true);
    assert.equal(isTrueAnswer(otherSecret, banner, said, parsed), false);
    assert.equal(isTrueAnswer(secret, banner, { ...said, nonce: makeNonce() }, parsed), false);
    assert.equal(isTrueAnswer(secret, banner, said, { ...parsed, message: "three" }), false);
    assert.equal(isTrueAnswer(secret, banner, said, { ...parsed, refusal: "taken" }), false);
  }
  const unproved = parseAnswer(formatAnswer(secret, banner, undefined, { refusal: "secret", message: "no" })) as Answer;
  assert.equal(isTrueAnswer(secret, banner, said, unproved), false);
});

test("groups are told apart by port and start", () => {
  const names = [
    { masterPort: 1 },
    { masterPort: 2 },
    { masterPort: 1, launchId: "a" },
    { masterPort: 11, launchId: "" },
  ];
  assert.equal(new Set(names.map(groupName)).size, names.length);
  assert.equal(groupName({ masterPort: 1 }), groupName({ masterPort: 1, launchId: "" }));
});

describe("a seal", () => {
  const key = connectionKey(secret, banner, said);

  test("opens what the other side closed, in order", () => {
    const [closing, opening] = [new Seal(key, "host"), new Seal(key, "host")];
    for (const text of ["{}", "", "a b\u2028"]) assert.equal(opening.open(closing.close(text)), text);
  });

  test("opens nothing else", () => {
    const first = () => new Seal(key, "host").close("x");
    const closing = new Seal(key, "host");
    closing.close("left out");
    const wrong = [
      closing.close("x"),
      new Seal(key, "guest").close("x"),
      new Seal(connectionKey(otherSecret, banner, said), "host").close("x"),
      first().replace(/x$/, "y"),
      first().toUpperCase(),
      "",
      "x",
    ];
    for (const line of wrong) assert.throws(() => new Seal(key, "host").open(line), /not sealed/, line);
    const repeated = new Seal(key, "host");
    repeated.open(first());
    assert.throws(() => repeated.open(first()), /not sealed/);
  });
});

test("the session key depends on the secret and on every nonce in its place", () => {
  const [a, b] = [makeNonce(), makeNonce()];
  const key = deriveSessionKey(secret, [a, b]);
  assert.equal(key.length, 32);
  assert.deepEqual(deriveSessionKey(secret, [a, b]), key);
  for (const other of [
    deriveSessionKey(secret, [b, a]),
    deriveSessionKey(secret, [a]),
    deriveSessionKey(otherSecret, [a, b]),
  ]) {
    assert.notDeepEqual(other, key);
  }
});

describe("whatever is sent", () => {
  const field = fc.oneof(
    fc.string(),
    fc.integer(),
    fc.double(),
    fc.constant(null),
    fc.stringMatching(/^[0-9a-f]{64}$/),
  );
  const names = [
    "shardspeed",
    "protocol",
    "group",
    "nonce",
    "version",
    "rank",
    "worldSize",
    "proof",
    "refusal",
    "message",
  ];
  const object = fc.dictionary(fc.constantFrom(...names), field).map((value) => JSON.stringify(value));
  const line = fc.oneof(fc.string({ unit: "binary" }), fc.json(), object);

  test("is parsed as what it is, or as nothing", () => {
    fc.assert(
      fc.property(line, (text) => {
        const hello = parseHello(text);
        if (hello !== undefined) {
          assert.ok(
            Number.isSafeInteger(hello.rank) && Number.isSafeInteger(hello.worldSize) && hello.version.length <= 100,
          );
          assert.equal(isTrueHello(secret, banner, hello), false);
        }
        const answer = parseAnswer(text);
        if (answer !== undefined) assert.equal(isTrueAnswer(secret, banner, said, answer), false);
        const found = parseBanner(text);
        if (found !== undefined) assert.ok(Number.isSafeInteger(found.protocol));
        assert.throws(() => new Seal(secret, "host").open(text), /not sealed/);
      }),
      { numRuns: 2000 },
    );
  });

  test("is parsed again where it was formatted here", () => {
    const count = fc.nat();
    fc.assert(
      fc.property(fc.string({ maxLength: 100 }), count, count, fc.string(), (version, rank, worldSize, message) => {
        const now = { version, rank, worldSize, nonce: makeNonce() };
        const hello = parseHello(formatHello(secret, banner, now)) as Hello;
        assert.equal(isTrueHello(secret, banner, hello), true);
        const answer = parseAnswer(formatAnswer(secret, banner, hello, { refusal: "rank", message })) as Answer;
        assert.equal(isTrueAnswer(secret, banner, now, answer), true);
      }),
    );
    assert.deepEqual(parseBanner(formatBanner(banner)), banner);
  });

  test("a banner of a later protocol is known for one", () => {
    const later = parseBanner(JSON.stringify({ shardspeed: "rendezvous", protocol: protocolVersion + 1, more: [] }));
    assert.equal(later?.protocol, protocolVersion + 1);
  });
});

describe("a wire", () => {
  const server = createServer();
  before(async () => {
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
  });
  after(() => {
    server.close();
  });

  /** Both ends of a connection, one of them as a wire. */
  async function open(limit = 1000): Promise<{ wire: Wire; peer: Socket }> {
    const accepted = once(server, "connection");
    const address = server.address();
    assert.ok(address !== null && typeof address === "object");
    const peer = connect(address.port, "127.0.0.1");
    peer.on("error", () => {}).on("data", () => {});
    const [socket] = await accepted;
    return { wire: new Wire(socket, limit), peer };
  }

  test("reads lines, however they are cut", async () => {
    const lines = fc.array(
      fc.string({ maxLength: 50 }).map((text) => text.replaceAll("\n", "")),
      { minLength: 1, maxLength: 10 },
    );
    await fc.assert(
      fc.asyncProperty(lines, fc.array(fc.nat(500)), async (sent, cuts) => {
        const { wire, peer } = await open(100_000);
        const bytes = Buffer.from(sent.map((text) => `${text}\n`).join(""));
        let from = 0;
        for (const cut of [...cuts.map((at) => at % bytes.length).sort((a, b) => a - b), bytes.length]) {
          peer.write(bytes.subarray(from, cut));
          from = cut;
        }
        peer.end();
        for (const text of sent) assert.equal(await wire.read(), Buffer.from(text).toString());
        await assert.rejects(wire.read(), /closed/);
        await wire.closed;
      }),
      { numRuns: 30 },
    );
  });

  test("is cut where more is sent than may wait", async () => {
    const { wire, peer } = await open(1000);
    peer.write("x".repeat(1001));
    await assert.rejects(wire.read(), /more than 1000 bytes/);
    await wire.closed;
  });

  test("has room again for as much as was read", async () => {
    const { wire, peer } = await open(20);
    for (let i = 0; i < 10; i++) {
      peer.write(`${"x".repeat(15)}\n`);
      assert.equal((await wire.read()).length, 15);
    }
    peer.destroy();
    await wire.closed;
  });

  test("tells a reader that waits of the end", { timeout: 20_000 }, async () => {
    const { wire, peer } = await open();
    const waiting = wire.read();
    peer.end();
    await assert.rejects(waiting, /closed/);
    await wire.closed;
  });

  test("sends its last line before it closes", async () => {
    const { wire, peer } = await open();
    let received = "";
    peer.setEncoding("utf8").on("data", (text) => {
      received += text;
    });
    const waiting = wire.read();
    const ended = once(peer, "end");
    void wire.close("bye");
    await assert.rejects(waiting, /closed by this side/);
    await ended;
    assert.equal(received, "bye\n");
    peer.destroy();
    await wire.closed;
  });

  test("does not wait for a side that never closes", async () => {
    const { wire, peer } = await open();
    peer.pause();
    peer.allowHalfOpen = true;
    await wire.close("bye");
    await assert.rejects(wire.read(), /closed/);
    peer.destroy();
  });
});
