import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { describe, test } from "node:test";
import { settingNames, settingOf } from "../../dist/serving/settings/table.js";
import { root } from "../package/programs.js";
import { type Resource, readYaml } from "./kustomize.js";
import { drainSeconds, probeRoutes, readServeCall, serveFlags } from "./serve_command.js";

const deploy = path.join(root, "deploy");
const read = (file: string) => readFileSync(path.join(deploy, file), "utf8");

/** The instructions of a Dockerfile, continued lines joined. */
function instructions(text: string): [string, string][] {
  const lines = text
    .replaceAll(/^\s*#.*\n/gm, "")
    .replaceAll(/\\\n\s*/g, " ")
    .split("\n");
  return lines.flatMap((line) => {
    const match = /^([A-Z]+)\s+(.*)$/.exec(line.trim());
    return match === null ? [] : [[match[1] as string, match[2] as string] as [string, string]];
  });
}

for (const file of ["Dockerfile", "Dockerfile.cuda"]) {
  describe(`deploy/${file}`, () => {
    const all = instructions(read(file));
    const last = all.findLastIndex(([name]) => name === "FROM");
    const stage = all.slice(last);
    const get = (name: string) => stage.filter(([one]) => one === name).map(([, text]) => text);

    test("has only instructions that are known, of images with a version", () => {
      const known = "FROM RUN COPY WORKDIR ENV USER EXPOSE HEALTHCHECK ENTRYPOINT CMD".split(" ");
      const lines = read(file)
        .replaceAll(/^\s*#.*\n/gm, "")
        .replaceAll(/\\\n\s*/g, " ")
        .split("\n")
        .filter((line) => line !== "");
      assert.equal(lines.length, all.length);
      assert.deepEqual(
        all.filter(([name]) => !known.includes(name)),
        [],
      );
      const stages = all.filter(([name]) => name === "FROM").map(([, text]) => text.split(" AS "));
      for (const [image] of stages) assert.match(image ?? "", /:[\w.-]*\d/);
      const sources = all.flatMap(([name, text]) => (name === "COPY" ? (/--from=(\w+)/.exec(text)?.[1] ?? []) : []));
      assert.deepEqual(
        sources.filter((source) => !stages.some(([, name]) => name === source)),
        [],
      );
    });

    test("copies what is there, and what the package needs", () => {
      const copied = all
        .filter(([name, text]) => name === "COPY" && !text.includes("--from"))
        .flatMap(([, text]) => text.split(" ").slice(0, -1));
      for (const name of copied) assert.ok(existsSync(path.join(root, name)), name);
      const kept = get("COPY").flatMap((text) => /--from=build \/app\/(\S+)/.exec(text)?.[1] ?? []);
      assert.deepEqual(kept.sort(), ["dist", "node_modules", "package.json", "prebuilds"]);
      const scripts = JSON.parse(readFileSync(path.join(root, "package.json"), "utf8")).scripts;
      for (const [, script] of read(file).matchAll(/npm run ([\w:]+)/g)) assert.ok(scripts[script as string], script);
    });

    test("runs Node as process 1, as a user of a number, and gives it the signal", () => {
      const [entry = ""] = get("ENTRYPOINT");
      assert.deepEqual(JSON.parse(entry), ["node", "/app/dist/cli/main.js"]);
      assert.match(get("USER").at(-1) ?? "", /^[1-9]\d*:[1-9]\d*$/);
      const { flags, model } = readServeCall(JSON.parse(get("CMD")[0] ?? ""), file);
      assert.deepEqual([model, flags.get("host"), flags.get("port")], ["/models/opt", "0.0.0.0", get("EXPOSE")[0]]);
      assert.equal(
        JSON.parse(readFileSync(path.join(root, "package.json"), "utf8")).bin.shardspeed,
        "dist/cli/main.js",
      );
    });

    test("checks liveness on the port that it exposes", () => {
      const check = /CMD (\[.*\])$/.exec(get("HEALTHCHECK")[0] ?? "")?.[1] ?? "";
      const [program, option, script] = JSON.parse(check);
      assert.deepEqual([program, option], ["node", "-e"]);
      assert.ok(script.includes(`http://127.0.0.1:${get("EXPOSE")[0]}${probeRoutes.live}'`));
      // Nothing listens here: the check fails, and does not hang or throw.
      const { status, stderr } = spawnSync(program, [option, script.replace(":8000", ":9")], { encoding: "utf8" });
      assert.deepEqual([status, stderr], [1, ""]);
    });

    test("leaves out of the build what is made again there", () => {
      const ignored = read(`${file}.dockerignore`)
        .split("\n")
        .filter((line) => line !== "" && !line.startsWith("#"));
      for (const name of [".git", "node_modules", "dist", "prebuilds"]) assert.ok(ignored.includes(name), name);
      for (const needed of ["lib", "src", "binding", "cuda", "scripts", "CMakeLists.txt"])
        assert.ok(!ignored.includes(needed));
    });
  });
}

describe("deploy/docker-compose.yaml", () => {
  const [base] = readYaml(path.join(deploy, "docker-compose.yaml"));
  const [cuda] = readYaml(path.join(deploy, "docker-compose.cuda.yaml"));

  // The keys of the Compose specification that are used here: docker itself is not there to ask.
  const topKeys = ["name", "services", "volumes"];
  const serviceKeys =
    "build image command ports volumes read_only tmpfs cap_drop security_opt restart stop_grace_period environment depends_on shm_size deploy".split(
      " ",
    );

  test("has keys that Compose knows", () => {
    for (const file of [base, cuda]) {
      assert.deepEqual(
        Object.keys(file).filter((key) => !topKeys.includes(key)),
        [],
      );
      for (const [name, service] of Object.entries<Resource>(file.services)) {
        assert.deepEqual(
          Object.keys(service).filter((key) => !serviceKeys.includes(key)),
          [],
          name,
        );
        assert.ok(!/:latest$/.test(service.image) && service.image.includes(":"), name);
      }
    }
    assert.deepEqual(Object.keys(cuda.services), ["shardspeed"]);
  });

  test("mounts files that are there, and volumes that are declared", () => {
    for (const service of Object.values<Resource>(base.services)) {
      for (const mount of service.volumes) {
        const [source] = mount.split(/:(?![?-])/);
        if (source.startsWith("${")) continue; // the user's model
        if (!source.startsWith("./")) assert.ok(source in base.volumes, source);
        else assert.ok(existsSync(path.join(deploy, source)), source);
      }
    }
    for (const { build } of [base.services.shardspeed, cuda.services.shardspeed])
      assert.ok(existsSync(path.join(root, build.dockerfile)));
  });

  test("calls the server with flags that it has, and waits for its end", () => {
    for (const { services } of [base, cuda]) {
      const call = readServeCall(services.shardspeed.command, "compose");
      assert.equal(call.flags.get("port"), "8000");
      assert.ok(Number.parseInt(base.services.shardspeed.stop_grace_period, 10) >= drainSeconds(call));
    }
  });

  test("has Prometheus scrape the server, and Grafana ask Prometheus", () => {
    const [{ scrape_configs: jobs }] = readYaml(path.join(deploy, "prometheus/prometheus.yaml"));
    assert.equal(jobs[0].metrics_path, probeRoutes.metrics);
    assert.deepEqual(jobs[0].static_configs[0].targets, ["shardspeed:8000"]);
    assert.ok("shardspeed" in base.services && "prometheus" in base.services);
    const [{ datasources }] = readYaml(path.join(deploy, "grafana/provisioning/datasources/prometheus.yaml"));
    assert.equal(datasources[0].url, "http://prometheus:9090");
    const [{ providers }] = readYaml(path.join(deploy, "grafana/provisioning/dashboards/shardspeed.yaml"));
    const mounts = base.services.grafana.volumes.map((mount: string) => mount.split(":")[1]);
    assert.ok(mounts.includes(`${providers[0].options.path}/dashboard.json`));
    assert.ok(mounts.includes(base.services.grafana.environment.GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH));
  });
});

describe("deploy/systemd/shardspeed.service", () => {
  const file = path.join(deploy, "systemd/shardspeed.service");
  const text = readFileSync(file, "utf8")
    .replaceAll(/^#.*\n/gm, "")
    .replaceAll(/\\\n\s*/g, "");
  const get = (key: string) => new RegExp(`^${key}=(.*)$`, "m").exec(text)?.[1] ?? "";

  test("tells the server alone to end, and waits for it", () => {
    const [node, main, ...args] = get("ExecStart").split(" ");
    assert.deepEqual([node, path.basename(main ?? "")], ["/usr/bin/node", "main.js"]);
    assert.equal(get("KillMode"), "mixed");
    assert.ok(Number(get("TimeoutStopSec")) >= drainSeconds(readServeCall(args, "systemd")));
    assert.equal(get("Restart"), "on-failure");
    assert.doesNotMatch(text, /^MemoryDenyWriteExecute/m);
  });

  test("is understood by systemd", (context) => {
    const verified = spawnSync("systemd-analyze", ["verify", "--man=no", file], { encoding: "utf8" });
    if (verified.error !== undefined) return context.skip("systemd-analyze is not installed");
    // Programs that are not on this machine are no fault of the file; what else is said is.
    const said = verified.stderr
      .split("\n")
      .filter((line) => line.includes("shardspeed.service") && !/is not executable/.test(line));
    assert.deepEqual(said, []);
  });
});

describe("deploy/config.properties", () => {
  test("has keys that the server reads", () => {
    const known = new Set(settingNames.flatMap((name) => settingOf(name).key ?? []));
    const lines = read("config.properties")
      .split("\n")
      .filter((line) => /^(# )?[a-z_]+=/.test(line));
    const keys = lines.map((line) => line.replace(/^# /, "").split("=")[0] as string);
    assert.ok(keys.length >= 10);
    assert.deepEqual(
      keys.filter((key) => !known.has(key)),
      [],
    );
  });
});

describe("deploy/nginx/shardspeed.conf", () => {
  const text = read("nginx/shardspeed.conf");

  test("passes streams on, and closes idle connections before the server does", () => {
    for (const line of ["proxy_buffering off;", 'proxy_set_header Connection "";', "proxy_http_version 1.1;"])
      assert.ok(text.includes(line));
    const secondsOf = (directive: string) => Number(new RegExp(`^\\s*${directive} (\\d+)s;`, "m").exec(text)?.[1]);
    assert.ok(secondsOf("keepalive_timeout") < Number(settingOf("keepAliveS").unset));
    assert.ok(secondsOf("proxy_read_timeout") > Number(settingOf("ssePingIntervalS").unset));
    assert.equal(Number(/client_max_body_size (\d+)m;/.exec(text)?.[1]) * 2 ** 20, settingOf("bodyLimitBytes").unset);
    for (const [, flag] of text.matchAll(/--([a-z-]+)/g)) assert.ok(serveFlags.has(flag as string), flag);
  });

  test("has balanced blocks and ended directives", () => {
    const lines = text
      .split("\n")
      .map((line) => line.replace(/#.*/, "").trim())
      .filter((line) => line !== "");
    assert.deepEqual(
      lines.filter((line) => !/[;{}]$/.test(line)),
      [],
    );
    assert.equal(lines.filter((line) => line.endsWith("{")).length, lines.filter((line) => line === "}").length);
  });
});
