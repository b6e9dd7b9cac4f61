import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ShardspeedError } from "../../../dist/base/errors.js";
import { describeConfiguration, effectiveConfiguration } from "../../../dist/serving/settings/print.js";
import { completeSettings, type resolveSettings } from "../../../dist/serving/settings/resolve.js";
import { variablesOf } from "../../../dist/serving/settings/row.js";
import { settingNames, settingOf } from "../../../dist/serving/settings/table.js";
import { ignoredKeys } from "../../../dist/serving/settings/torchserve_keys.js";
import { resolveWith } from "./support.js";

const fails = (code: string, pattern: RegExp) => (error: unknown) => {
  assert.ok(ShardspeedError.isInstance(error), String(error));
  assert.match(error.message, pattern);
  assert.equal(error.code, code);
  return true;
};

describe("a setting comes from", () => {
  const file = "job_queue_size=3\nenable_envvars_config=true\n";
  const queue = async (properties: string, flag?: string, environment: NodeJS.ProcessEnv = {}) => {
    const flags = { modelStore: "store", ...(flag === undefined ? {} : { maxQueuedRequests: flag }) };
    const { values, origins } = await resolveWith(properties, { flags, environment });
    return [values.maxQueuedRequests, origins.maxQueuedRequests.source, origins.maxQueuedRequests.place];
  };

  test("its flag, else the environment, else config.properties, else its default", async () => {
    const environment = { SHARDSPEED_MAX_QUEUED_REQUESTS: "7", TS_JOB_QUEUE_SIZE: "5" };
    assert.deepEqual(await queue(file, "9", environment), [9, "flag", "--max-queued-requests"]);
    assert.deepEqual(await queue(file, undefined, environment), [7, "environment", "SHARDSPEED_MAX_QUEUED_REQUESTS"]);
    assert.deepEqual(await queue(file, undefined, { TS_JOB_QUEUE_SIZE: "5" }), [5, "environment", "TS_JOB_QUEUE_SIZE"]);
    assert.deepEqual(await queue(file), [3, "config.properties", "config.properties:1"]);
    assert.deepEqual(await queue(""), [100, "default", ""]);
    assert.deepEqual(await queue("job_queue_size=  \n"), [100, "default", ""]);
    assert.deepEqual(await queue("job_queue_size=3\njob_queue_size=4"), [
      4,
      "config.properties",
      "config.properties:2",
    ]);
    assert.deepEqual(await queue("job_queue_size=0"), [100, "config.properties", "config.properties:1"]);
  });

  test("TorchServe's variables only where the file says that they count", async () => {
    const environment = { TS_JOB_QUEUE_SIZE: "5", TS_ALLOWED_URLS: "https://a/.*" };
    const without = await resolveWith("job_queue_size=3", { environment });
    assert.equal(without.values.maxQueuedRequests, 3);
    assert.match(without.warnings.join("\n"), /TS_JOB_QUEUE_SIZE has no effect without enable_envvars_config=true/);
    const urls = await resolveWith("enable_envvars_config=true", { environment });
    assert.deepEqual(urls.values.allowedUrls, []);
    assert.match(urls.warnings.join("\n"), /TS_ALLOWED_URLS has no effect without use_env_allowed_urls=true/);
    const both = await resolveWith("enable_envvars_config=true\nuse_env_allowed_urls=true", { environment });
    assert.deepEqual(both.values.allowedUrls, ["https://a/.*"]);
  });

  test("the file that is named: by the flag, our variable or TorchServe's, and it must be there", async () => {
    for (const sources of [
      { flags: { modelStore: "s", configFile: "gone.properties" } },
      { flags: { modelStore: "s" }, environment: { SHARDSPEED_TS_CONFIG: "gone.properties" } },
      { flags: { modelStore: "s" }, environment: { TS_CONFIG_FILE: "gone.properties" } },
    ])
      await assert.rejects(resolveWith("", sources), fails("ERR_CONFIG", /There is no file .*gone\.properties/));
    const named = { modelFolder: "m", configFile: "config.properties" };
    assert.equal((await resolveWith("port=1\njob_queue_size=3", { flags: named })).values.maxQueuedRequests, 3);
    // With a model as argument, a file that happens to be there is none of its business.
    assert.equal(
      (await resolveWith("job_queue_size=3", { flags: { modelFolder: "m" } })).values.maxQueuedRequests,
      100,
    );
  });
});

test("wrong values are one error that names each source, and flags make it one of usage", async () => {
  await assert.rejects(
    resolveWith("job_queue_size=many\nmanagement_address=8081"),
    fails("ERR_CONFIG", /config\.properties:2: management_address to be an address such as .*found "8081"/s),
  );
  await assert.rejects(
    resolveWith("job_queue_size=many", { flags: { modelStore: "s", port: "70000" } }),
    fails(
      "ERR_INVALID_ARGUMENT",
      /--port.*config\.properties:1: job_queue_size to be an integer from 1 .*found "many"/s,
    ),
  );
  await assert.rejects(
    resolveWith("", { flags: { modelStore: "s", port: "70000", dtype: "fp12" } }),
    fails("ERR_INVALID_ARGUMENT", /Expected --port to be an integer from 0 to 65535, found "70000"\nExpected --dtype/),
  );
  await assert.rejects(
    resolveWith("", { environment: { SHARDSPEED_KEEP_ALIVE_S: "soon" } }),
    fails("ERR_CONFIG", /Expected SHARDSPEED_KEEP_ALIVE_S to be a number/),
  );
});

describe("config.properties", () => {
  test("a key that nobody knows is a warning with the nearest one, one without effect says why", async () => {
    const { warnings } = await resolveWith(
      [
        "job_queue_siez=3",
        "number_of_netty_threads=4",
        "metrics_mode=log",
        "keystore=a.p12",
        "metrics_format=prometheus",
        "zzzz=1",
        "grpc_inference_port=7070",
        "model_store=a",
        "model_store=b",
      ].join("\n"),
    );
    assert.deepEqual(warnings, [
      "config.properties:9: model_store is in line 8 too: this line counts",
      ...[
        "config.properties:1: job_queue_siez is no key of TorchServe's. Did you mean job_queue_size?",
        "config.properties:2: number_of_netty_threads has no effect: Node has its own threads",
        "config.properties:3: metrics_mode has no effect: metrics are always at /metrics, and not in a log",
        "config.properties:4: keystore has no effect: Java's key stores are not read: name PEM files by private_key_file and certificate_file",
        "config.properties:6: zzzz is no key of TorchServe's. It is ignored.",
        "config.properties:7: grpc_inference_port has no effect: there is no gRPC: use the HTTP APIs",
      ],
    ]);
  });

  test("of many warnings twenty are shown", async () => {
    const { warnings } = await resolveWith(Array.from({ length: 500 }, (_, i) => `wrong${i}=1`).join("\n"));
    assert.equal(warnings.length, 21);
    assert.equal(warnings.at(-1), "config.properties: 480 more warnings");
  });

  test("is read as TorchServe's users write it", async () => {
    const { values, listeners, warnings } = await resolveWith(
      `inference_address=http://0.0.0.0:18080
management_address=http://127.0.0.1:18081 \nmetrics_address=http://127.0.0.1:18082
grpc_inference_address=127.0.0.1
disable_token_authorization=true
enable_model_api = TRUE
metrics_mode=prometheus
default_workers_per_model=0
max_request_size=65536
default_response_timeout=20
load_models=echo.mar, opt = opt.tar.gz
allowed_urls=https://s3.amazonaws.com/.*,file://.*
cors_allowed_origin=*
cors_allowed_methods=GET, POST, PUT, OPTIONS
models={\\
  "opt": {\\
    "1.0": {\\
        "defaultVersion": true,\\
        "marName": "opt.tar.gz",\\
        "minWorkers": 1,\\
        "batchSize": 4,\\
        "maxBatchDelya": 100\\
    }\\
  }\\
}
`,
      { flags: { modelStore: "store" } },
    );
    assert.deepEqual(listeners, {
      inference: { isTls: false, host: "0.0.0.0", port: 18080 },
      management: { isTls: false, host: "127.0.0.1", port: 18081 },
      metrics: { isTls: false, host: "127.0.0.1", port: 18082 },
    });
    assert.deepEqual(values.loadModels, [{ location: "echo.mar" }, { name: "opt", location: "opt.tar.gz" }]);
    assert.deepEqual(values.modelSettings, [
      {
        model: "opt",
        version: "1.0",
        isDefault: true,
        archive: "opt.tar.gz",
        settings: { minWorkers: 1, batchSize: 4 },
      },
    ]);
    assert.deepEqual(values.allowedUrls, ["https://s3.amazonaws.com/.*", "file://.*"]);
    assert.deepEqual(values.allowedMethods, ["GET", "POST", "PUT", "OPTIONS"]);
    assert.equal(values.enableModelApi, true);
    assert.equal(values.defaultWorkersPerModel, 1);
    assert.equal(values.bodyLimitBytes, 65536);
    assert.match(warnings.join("\n"), /models: maxBatchDelya of opt 1\.0 is no setting; did you mean maxBatchDelay\?/);
    assert.match(warnings.join("\n"), /reach this server without a key \(inference\)/);
  });

  test("models: what is wrong in it is named", async () => {
    for (const [json, pattern] of [
      ["{", /models to be JSON of the form/],
      ['{"a": 1}', /a has no versions/],
      ['{"a": {"1": {"marName": 4}}}', /marName of a 1/],
      ['{"a": {"1": {"minWorkers": -1}}}', /an integer of at least 1 as minWorkers of a 1/],
    ] as const)
      await assert.rejects(resolveWith(`models=${json}`), fails("ERR_CONFIG", pattern));
  });
});

describe("listeners", () => {
  const plan = async (flags: Parameters<typeof resolveSettings>[0]["flags"], properties = "", environment = {}) =>
    (await resolveWith(properties, { flags, environment })).listeners;
  const at = (port: number, host = "127.0.0.1", isTls = false) => ({ isTls, host, port });

  test("a model folder has one, a model store TorchServe's three", async () => {
    const one = await plan({ modelFolder: "m", host: "0.0.0.0", port: "8000" });
    assert.deepEqual(one, { inference: at(8000, "0.0.0.0"), management: undefined, metrics: at(8000, "0.0.0.0") });
    assert.equal(one.metrics, one.inference);
    assert.deepEqual(await plan({ modelStore: "s" }), { inference: at(8080), management: at(8081), metrics: at(8082) });
    const merged = await plan({ modelStore: "s" }, "management_address=http://127.0.0.1:8080");
    assert.equal(merged.management, merged.inference);
    const free = await plan({ modelStore: "s", inferenceAddress: "http://[::1]:0", metricsAddress: "http://[::1]:0" });
    assert.deepEqual(free.inference, at(0, "::1"));
    assert.notEqual(free.metrics, free.inference);
  });

  test("--host and --port stand above the file's address, and below an address of a stronger source", async () => {
    const file = "inference_address=http://10.0.0.1:9000";
    assert.deepEqual((await plan({ modelStore: "s", port: "1" }, file)).inference, at(1, "10.0.0.1"));
    const flags = { modelStore: "s", inferenceAddress: "http://10.0.0.2" };
    assert.deepEqual((await plan(flags, file, { SHARDSPEED_PORT: "5" })).inference, at(80, "10.0.0.2"));
  });

  test("sockets, names and default ports", async () => {
    const { inference } = await plan({ modelStore: "s", inferenceAddress: "unix:/tmp/a.sock" });
    assert.deepEqual(inference, { socketPath: "/tmp/a.sock" });
    const mixed = { modelStore: "s", inferenceAddress: "unix:/tmp/a.sock", port: "1" };
    await assert.rejects(plan(mixed), fails("ERR_INVALID_ARGUMENT", /is a socket/));
    const { management } = await plan({ modelStore: "s", managementAddress: "HTTP://localhost" });
    assert.deepEqual(management, at(8081, "localhost"));
    for (const wrong of ["8080", "http://", "http://a:99999", "ftp://a", "unix:relative", "http://a/b"])
      await assert.rejects(
        plan({ modelStore: "s", inferenceAddress: wrong }),
        fails("ERR_INVALID_ARGUMENT", /an address/),
      );
  });

  test("TLS needs both files, and a certificate alone turns it on", async () => {
    const files = { sslKeyFile: "k.pem", sslCertificateFile: "c.pem" };
    assert.deepEqual((await plan({ modelFolder: "m", ...files })).inference, at(8080, "127.0.0.1", true));
    await assert.rejects(plan({ modelFolder: "m", sslKeyFile: "k.pem" }), fails("ERR_INVALID_ARGUMENT", /certificate/));
    await assert.rejects(
      plan({ modelStore: "s" }, "inference_address=https://0.0.0.0:8443\nkeystore=a.p12"),
      fails("ERR_CONFIG", /https:\/\/0\.0\.0\.0:8443 needs a certificate/),
    );
  });

  test("Kubernetes' variable of a service is no port", async () => {
    const environment = { SHARDSPEED_PORT: "tcp://10.96.0.7:8000" };
    const { listeners, warnings } = await resolveWith("", { flags: { modelFolder: "m" }, environment });
    assert.deepEqual(listeners.inference, at(8080));
    assert.match(warnings.join("\n"), /Kubernetes/);
  });
});

test("settings that contradict each other are refused", async () => {
  for (const [flags, pattern] of [
    [{}, /nothing to serve/],
    [{ loadModels: "all" }, /--models is all, which needs a model store/],
    [{ modelStore: "s", servedModelNames: "a" }, /--served-model-name names MODEL/],
    [{ loadModels: "a=1,a=2" }, /each model's name once/],
  ] as const)
    await assert.rejects(resolveWith("", { flags }), fails("ERR_INVALID_ARGUMENT", pattern));
  await assert.rejects(
    resolveWith("disable_token_authorization=false"),
    fails("ERR_CONFIG", /config\.properties:1 asks for keys, and there are none/),
  );
  const { warnings } = await resolveWith("", {
    flags: { modelFolder: "m", apiKeyFile: "k", disableTokenAuthorization: "true" },
  });
  assert.match(warnings.join("\n"), /authorization is switched off/);
});

test("the effective configuration has every setting with its source, and no secret", async () => {
  const resolved = await resolveWith("job_queue_size=3", {
    flags: { modelFolder: "m", configFile: "config.properties", loadModels: "a=b,c" },
    environment: { SHARDSPEED_API_KEY: "sk-very-secret" },
  });
  const text = describeConfiguration(resolved);
  assert.doesNotMatch(text + JSON.stringify(effectiveConfiguration(resolved)), /very-secret/);
  for (const line of [
    "maxQueuedRequests = 3 (config.properties:1)",
    "apiKey = (set) (SHARDSPEED_API_KEY)",
    "loadModels = a=b, c (--models)",
    "inferenceAddress = http://127.0.0.1:8080 (default)",
    "tpSize = (unset) (default: as the model's own configuration says)",
    "management listener: none",
  ])
    assert.ok(text.includes(`${line}\n`), `${line}\n${text}`);
  assert.deepEqual(
    effectiveConfiguration(resolved).map(({ name }) => name),
    settingNames,
  );
});

test("a wrong secret is not repeated", async () => {
  const environment = { SHARDSPEED_API_KEY: "secret\0" };
  await assert.rejects(resolveWith("", { environment }), (error: Error) => !error.message.includes("secret\\"));
  const { warnings } = await resolveWith("", { environment: { SHARDSPEED_API_KEY: "" } });
  assert.match(warnings.join("\n"), /SHARDSPEED_API_KEY is empty/);
});

test("names of flags, variables and keys are each there once", () => {
  const unique = (names: string[]) => assert.equal(new Set(names).size, names.length, names.sort().join());
  const rows = settingNames.map((name) => settingOf(name));
  unique(rows.flatMap(({ flags = [] }) => [...flags]));
  unique([...rows.flatMap(({ key }) => key ?? []), ...ignoredKeys.keys()]);
  unique(settingNames.map((name) => variablesOf(name, settingOf(name)).own));
});

test("every default is a value that its own kind reads", () => {
  for (const name of settingNames) {
    const { unset, kind } = settingOf(name);
    if (unset === undefined || kind.isList) continue;
    const text = kind.show?.(unset) ?? (typeof unset === "object" ? JSON.stringify(unset) : String(unset));
    const isEmptyText = text === "" || text === "[]";
    if (!isEmptyText) assert.deepEqual(kind.read(text), { value: unset }, name);
  }
});

test("values in the code are completed, and checked as those of users are", () => {
  const { values, listeners } = completeSettings({ modelFolder: "m", port: 0 });
  assert.deepEqual(listeners.inference, { isTls: false, host: "127.0.0.1", port: 0 });
  assert.equal(values.keepAliveS, 125);
  assert.throws(() => completeSettings({}), fails("ERR_INVALID_ARGUMENT", /nothing to serve/));
});

test("--speculative-config takes vLLM's names and those of initInference", async () => {
  const read = async (json: object) => {
    const flags = { modelStore: "store", speculation: JSON.stringify(json) };
    return (await resolveWith("", { flags })).values.speculation;
  };
  assert.deepEqual(await read({ method: "ngram", num_speculative_tokens: 8, prompt_lookup_min: 2 }), {
    ...{ method: "ngram", draftTokens: 8, minMatch: 2, maxMatch: 8, adaptive: true },
  });
  const drafted = { method: "draft", model: "small", draftTokens: 5, adaptive: true };
  assert.deepEqual(await read({ method: "draft_model", model: "small", num_speculative_tokens: 5 }), drafted);
  assert.deepEqual(await read({ method: "draft", model: "small", draftTokens: 5 }), drafted);
  await assert.rejects(
    read({ method: "eagle", model: "small" }),
    fails("ERR_INVALID_ARGUMENT", /speculative-config.*"ngram" or "draft"/),
  );
  await assert.rejects(read({ method: "draft_model" }), fails("ERR_INVALID_ARGUMENT", /speculation\.model/));
});
