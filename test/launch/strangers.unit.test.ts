import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { describe, test } from "node:test";
import type { LaunchEnvironment } from "../../dist/launch/environment.js";
import { formatAnswer, formatBanner, groupName, makeNonce, protocolVersion } from "../../dist/launch/handshake.js";
import { meetingPorts } from "../../dist/launch/meeting.js";
import { assertFails, assertMet, meet, occupy, watchResources } from "./meeting_support.js";
import { waitFor } from "./processes.js";
import { makePlaces } from "./support.js";

watchResources();

describe("strangers", () => {
  test("at the door of rank 0 do not disturb the meeting", async () => {
    const [zero, one, two] = makePlaces(3) as [LaunchEnvironment, LaunchEnvironment, LaunchEnvironment];
    const logged: string[] = [];
    const meeting = [meet(zero, { logged }), meet(one)];
    await waitFor(() => logged.some((line) => /Rank 1 has come/.test(line)), "rank 1 came");
    const strangers: Socket[] = [];
    const visit = async (greeting: string | Buffer) => {
      const socket = connect(zero.masterPort, "127.0.0.1").on("error", () => {});
      socket.resume();
      strangers.push(socket);
      await once(socket, "connect");
      socket.write(greeting);
    };
    await visit("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    await visit(Buffer.from([0x16, 3, 1, 0, 200, 1, 0, 0, 10, 0xff]));
    await visit("\n\n\n");
    await visit(`${"x".repeat(10_000_000)}`);
    await visit(`{"version":"1","rank":2,"worldSize":3,"nonce":"${makeNonce()}","proof":"${makeNonce()}"}\n`);
    for (let i = 0; i < 20; i++) await visit("");
    await visit(formatBanner({ group: groupName(zero), nonce: makeNonce() }));
    assertMet(await Promise.all([...meeting, meet(two)]));
    for (const socket of strangers) socket.destroy();
  });

  test("where the logger throws: the call ends with its error, and nothing else does", async () => {
    for (const [what, at] of [
      ["in the handler of a connection", /cut a connection/],
      ["when a rank has come", /Rank 1 has come/],
      ["in the call itself", /waits for/],
    ] as const) {
      const [zero, one] = makePlaces(2) as [LaunchEnvironment, LaunchEnvironment];
      const logged: string[] = [];
      const thrown = new Error(what);
      const onLog = (message: string) => {
        if (at.test(message)) throw thrown;
      };
      const meeting = meet(zero, { logged, onLog });
      const rejected = assert.rejects(meeting, (error) => error === thrown);
      await waitFor(() => logged.some((line) => /waits for/.test(line)), "rank 0 listens");
      const other = meet(one, { timeoutMs: 500 }).catch(() => {});
      const stranger = connect(zero.masterPort, "127.0.0.1").on("error", () => {});
      stranger.end("garbage\n").resume();
      await rejected;
      await other;
      stranger.destroy();
    }
  });

  test("more of them than there is room for: the oldest go", async () => {
    const [zero, one] = makePlaces(2) as [LaunchEnvironment, LaunchEnvironment];
    const logged: string[] = [];
    const meeting = meet(zero, { logged });
    await waitFor(() => logged.some((line) => /waits for/.test(line)), "rank 0 listens");
    const crowd = Array.from({ length: 150 }, () =>
      connect(zero.masterPort, "127.0.0.1")
        .on("error", () => {})
        .resume(),
    );
    await waitFor(() => logged.some((line) => /too many others/.test(line)), "one of them was cut");
    assertMet(await Promise.all([meeting, meet(one)]));
    for (const socket of crowd) socket.destroy();
  });

  test("on the ports of rank 0: it takes the next one, and the others find it there", async () => {
    const [zero, one] = makePlaces(2) as [LaunchEnvironment, LaunchEnvironment];
    const greetings = [
      "",
      "220 mail.example ESMTP\r\n",
      `${"x".repeat(100_000)}`,
      `${formatBanner({ group: "0".repeat(16), nonce: makeNonce() })}\n`,
      null,
    ];
    const servers = await Promise.all(greetings.map((greeting, index) => occupy(zero.masterPort + index, greeting)));
    const logged: string[] = [];
    assertMet(await Promise.all([meet(zero, { logged }), meet(one)]));
    assert.match(logged.join("\n"), new RegExp(`port ${zero.masterPort + greetings.length}`));
    await Promise.all(servers.map((server) => server.stop()));
  });

  test("that call themselves rank 0 are not believed", async () => {
    const [zero, one] = makePlaces(2) as [LaunchEnvironment, LaunchEnvironment];
    const other = Buffer.from("the secret of some others");
    const banner = { protocol: protocolVersion, group: groupName(zero), nonce: makeNonce() };
    const answers = [
      formatAnswer(other, banner, undefined, { refusal: "taken", message: "go away" }),
      formatAnswer(other, banner, undefined, { message: "" }),
      "{}",
    ];
    const servers = await Promise.all(
      answers.map((answer, index) => occupy(zero.masterPort + index, `${formatBanner(banner)}\n`, `${answer}\n`)),
    );
    const later = `{"shardspeed":"rendezvous","protocol":${protocolVersion + 1}}\n`;
    servers.push(await occupy(zero.masterPort + answers.length, later));
    assertMet(await Promise.all([meet(zero), meet(one)]));
    // Where there is nobody else, they are taken for what they say after a while: a wrong secret is more likely than they are.
    await assertFails(meet(one), "ERR_COMM", /found this: (a group that|another version of shardspeed)/);
    await Promise.all(servers.map((server) => server.stop()));
  });

  test("on all ports", async () => {
    const [zero] = makePlaces(2) as [LaunchEnvironment];
    const servers = await Promise.all(Array.from({ length: 16 }, (_, index) => occupy(zero.masterPort + index, "")));
    await assertFails(meet(zero), "ERR_COMM", /cannot listen at 127\.0\.0\.1 on any port.*EADDRINUSE.*MASTER_PORT/);
    await Promise.all(servers.map((server) => server.stop()));
  });

  test("the port that torchrun's agent holds is left alone", async () => {
    const places = makePlaces(2, { agentHoldsPort: true, launcher: "torchrun" });
    const port = places[0]?.masterPort as number;
    const agent = await occupy(port, "");
    const logged: string[] = [];
    assertMet(await Promise.all(places.map((place) => meet(place, { logged }))));
    assert.match(logged.join("\n"), new RegExp(`port ${port + 1}`));
    assert.equal(agent.visits, 0);
    await agent.stop();
  });

  test("ports end at 65535", async () => {
    const portsFrom = (masterPort: number, agentHoldsPort = false) =>
      meetingPorts(makePlaces(1, { masterPort, agentHoldsPort })[0] as LaunchEnvironment);
    assert.deepEqual(portsFrom(65534), [65534, 65535]);
    assert.deepEqual(portsFrom(65535), [65535]);
    assert.equal(portsFrom(65520).length, 16);
    // The port itself is not listened on here: programs beside this one may have it.
    const [none] = makePlaces(2, { masterPort: 65535, agentHoldsPort: true }) as [LaunchEnvironment];
    await assertFails(meet(none), "ERR_CONFIG", /MASTER_PORT=65535/);
  });
});
