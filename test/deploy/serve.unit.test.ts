import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";
import { root, runProgram } from "../package/programs.js";
import { build, containersOf, readYaml } from "./kustomize.js";

const deploy = path.join(root, "deploy");

/** The arguments of the server in each file of deploy/, by the file. */
function commandLines(): Map<string, string[]> {
  const lines = new Map<string, string[]>();
  for (const file of ["Dockerfile", "Dockerfile.cuda"]) {
    const text = readFileSync(path.join(deploy, file), "utf8");
    lines.set(file, JSON.parse(/^CMD (\[.*\])$/m.exec(text)?.[1] ?? ""));
  }
  for (const file of ["docker-compose.yaml", "docker-compose.cuda.yaml"]) {
    lines.set(file, readYaml(path.join(deploy, file))[0].services.shardspeed.command);
  }
  const unit = readFileSync(path.join(deploy, "systemd/shardspeed.service"), "utf8").replaceAll(/\\\n\s*/g, "");
  lines.set("systemd", /^ExecStart=.*?main\.js (.*)$/m.exec(unit)?.[1]?.split(" ") ?? []);
  const top = path.join(deploy, "kubernetes");
  for (const file of readdirSync(top, { recursive: true, encoding: "utf8" })) {
    if (path.basename(file) !== "kustomization.yaml") continue;
    const containers = build(path.join(top, path.dirname(file))).flatMap(containersOf);
    for (const { name, args } of containers)
      lines.set(`${path.dirname(file)}, ${name}`, args.slice(args.indexOf("serve")));
  }
  lines.set("config.properties", ["serve", "--ts-config", path.join(deploy, "config.properties")]);
  return lines;
}

test("the server takes every command line of deploy/, and listens where probes and proxies ask", async () => {
  const lines = commandLines();
  assert.ok(lines.size >= 13);
  const run = async ([file, args]: [string, string[]]) => {
    const main = path.join(root, "dist/cli/main.js");
    const { status, stdout, stderr } = await runProgram(process.execPath, [main, ...args, "--print-config"], tmpdir());
    assert.equal(status, 0, `${file}: ${stderr}`);
    return [file, stdout] as const;
  };
  // A few at a time: each is a process.
  const all = [...lines];
  for (let i = 0; i < all.length; i += 4) {
    for (const [file, printed] of await Promise.all(all.slice(i, i + 4).map(run))) {
      if (file === "config.properties") {
        assert.match(printed, /^management listener: http:\/\/127\.0\.0\.1:8081$/m);
        assert.match(printed, /^defaultStartupTimeoutS = 600 \(.*config\.properties/m);
        continue;
      }
      assert.match(printed, /^shutdownTimeoutS = 45 \(--shutdown-timeout-s\)$/m, file);
      // On one port, and from outside where there is a container around the server.
      const port = file.startsWith("kserve") ? 8080 : 8000;
      const host = file === "systemd" ? "127.0.0.1" : "0.0.0.0";
      for (const listener of ["inference", "metrics"]) {
        assert.ok(printed.includes(`\n${listener} listener: http://${host}:${port}\n`), `${file}: ${printed}`);
      }
    }
  }
});
