import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import path from "node:path";
import { describe, test } from "node:test";
import { ScaledObject } from "@kubernetes-models/keda/keda.sh/v1alpha1/ScaledObject";
import { Deployment } from "kubernetes-models/apps/v1/Deployment";
import { HorizontalPodAutoscaler } from "kubernetes-models/autoscaling/v2/HorizontalPodAutoscaler";
import { PodDisruptionBudget } from "kubernetes-models/policy/v1/PodDisruptionBudget";
import { Service } from "kubernetes-models/v1/Service";
import type { MetricName } from "../../dist/serving/metrics/metric_set.js";
import { settingOf } from "../../dist/serving/settings/table.js";
import { root } from "../package/programs.js";
import { build, containersOf, podsOf, type Resource, readYaml } from "./kustomize.js";
import { drainSeconds, probeRoutes, readServeCall } from "./serve_command.js";
import { findTypeErrors } from "./types.js";

const top = path.join(root, "deploy/kubernetes");
const files = readdirSync(top, { recursive: true, encoding: "utf8" }).filter((file) => file.endsWith(".yaml"));
const folders = files.filter((file) => path.basename(file) === "kustomization.yaml").map((file) => path.dirname(file));
const built = new Map(folders.map((folder) => [folder, build(path.join(top, folder))]));
const validators: Record<string, new (data: Resource) => { validate(): void }> = {
  ...{ Deployment, HorizontalPodAutoscaler, PodDisruptionBudget, ScaledObject, Service },
};

/** All pods of all kustomizations, by a name for messages. */
function pods(): [string, Resource][] {
  return [...built].flatMap(([folder, resources]) =>
    resources.flatMap((resource) =>
      podsOf(resource).map((pod, i): [string, Resource] => [`${folder}, ${resource.kind} ${i}`, pod]),
    ),
  );
}

function containers(): [string, Resource][] {
  return [...built].flatMap(([folder, resources]) =>
    resources.flatMap((resource) =>
      containersOf(resource).map((container): [string, Resource] => [`${folder}, ${container.name}`, container]),
    ),
  );
}

const callOf = (name: string, container: Resource) => readServeCall(container.args, name);
const preStopSeconds = (container: Resource) => {
  const { command } = container.lifecycle.preStop.exec;
  assert.equal(command[0], "sleep");
  return Number(command[1]);
};

describe("deploy/kubernetes", () => {
  test("has every file in a kustomization", () => {
    const used = folders.flatMap((folder) => {
      const [{ resources }] = readYaml(path.join(top, folder, "kustomization.yaml"));
      return [path.join(folder, "kustomization.yaml"), ...resources.map((name: string) => path.join(folder, name))];
    });
    assert.ok(folders.length >= 7);
    assert.deepEqual(
      files.filter((file) => !used.includes(file)),
      [],
    );
  });

  test("keeps to the validators of its kinds", () => {
    const validated: string[] = [];
    for (const resource of [...built.values()].flat()) {
      const Validator = validators[resource.kind];
      if (Validator === undefined) continue;
      new Validator(resource).validate();
      validated.push(resource.kind);
    }
    assert.deepEqual([...new Set(validated)].sort(), Object.keys(validators).sort());
    const [first] = built.get("base")?.filter(({ kind }) => kind === "Deployment") ?? [];
    const wrong = structuredClone(first);
    wrong.spec.replicas = "two";
    assert.throws(() => new Deployment(wrong).validate(), /replicas/);
  });

  test("keeps to the types of its kinds; a misspelled key, a wrong value and an unknown kind would not", () => {
    const kustomizations = folders.flatMap((folder) => readYaml(path.join(top, folder, "kustomization.yaml")));
    const right = [...[...built.values()].flat(), ...kustomizations];
    const spoil = (folder: string, kind: string, change: (resource: Resource) => void) => {
      const resource = structuredClone(built.get(folder)?.find((one) => one.kind === kind));
      resource.metadata.name = "spoiled";
      change(resource);
      return resource;
    };
    const spoiled = [
      spoil("base", "Deployment", ({ spec }) => {
        spec.template.spec.containers[0].readinesProbe = {};
      }),
      spoil("overlays/keda", "ScaledObject", ({ spec }) => {
        spec.maxReplicas = 3;
      }),
      spoil("leader-worker-set", "LeaderWorkerSet", ({ spec }) => {
        spec.leaderWorkerTemplate.workerTemplate.spec.containers[0].argz = [];
      }),
      spoil("kserve", "InferenceService", ({ spec }) => {
        spec.predictor.model.protocolVersion = "v3";
      }),
      { apiVersion: "v1", kind: "Unknown", metadata: { name: "spoiled" } },
    ];
    // One run of the compiler, which takes seconds.
    const errors = findTypeErrors([...right, ...spoiled]);
    assert.deepEqual(
      errors.filter((error) => !error.includes(" spoiled: ")),
      [],
    );
    const found = errors.join("\n");
    for (const word of ["readinesProbe", "maxReplicas", "argz", "v3", "Unknown"]) assert.match(found, new RegExp(word));
  });

  test("calls the server with flags that it has, on the port that is probed", () => {
    for (const [name, container] of containers()) {
      const { flags, model, launcher } = callOf(name, container);
      assert.ok(model?.startsWith("/models/") || model === "/mnt/models", name);
      assert.equal(flags.get("host"), "0.0.0.0", name);
      if (launcher === undefined) assert.equal(container.command, undefined, name);
      const ports: Resource[] = container.ports ?? [];
      if (name.endsWith("worker")) continue;
      assert.deepEqual(
        ports.map((port) => String(port.containerPort)),
        [flags.get("port")],
        name,
      );
      for (const [probe, route] of [
        ["startupProbe", probeRoutes.ready],
        ["livenessProbe", probeRoutes.live],
        ["readinessProbe", probeRoutes.ready],
      ] as const) {
        const { path: asked, port } = container[probe].httpGet;
        assert.equal(asked, route, `${name}, ${probe}`);
        assert.ok(port === ports[0].name || port === ports[0].containerPort, `${name}, ${probe}`);
      }
    }
  });

  test("gives a model the time to load that the server gives it", () => {
    for (const [name, container] of containers()) {
      if (name.endsWith("worker")) continue;
      const { periodSeconds, failureThreshold } = container.startupProbe;
      const timeout = Number(callOf(name, container).flags.get("default-startup-timeout"));
      assert.ok(timeout >= Number(settingOf("defaultStartupTimeoutS").unset), name);
      assert.ok(periodSeconds * failureThreshold >= timeout, name);
    }
  });

  test("waits for a draining server: grace is more than preStop, drain delay and shutdown timeout together", () => {
    const checked: string[] = [];
    const checkGrace = (name: string, graceSeconds: number, container: Resource) => {
      const call = callOf(name, container);
      const worker = name.endsWith("Set 1");
      // A worker ends with its leader, whose own preStop has gone by then.
      const neededSeconds = preStopSeconds(container) + (worker ? 5 : drainSeconds(call));
      assert.ok(graceSeconds >= neededSeconds, `${name}: ${graceSeconds} s of grace, ${neededSeconds} s needed`);
      if (call.launcher !== undefined) {
        const launcherGrace = Number(call.launcher.get("grace-seconds"));
        assert.ok(launcherGrace >= drainSeconds(call), `${name}: --grace-seconds ${launcherGrace}`);
      }
      checked.push(name);
    };
    for (const [name, pod] of pods()) checkGrace(name, pod.spec.terminationGracePeriodSeconds, pod.spec.containers[0]);
    const kserve = built.get("kserve") ?? [];
    const runtime = kserve.find(({ kind }) => kind === "ServingRuntime");
    const service = kserve.find(({ kind }) => kind === "InferenceService");
    assert.equal(service.spec.predictor.model.runtime, runtime.metadata.name);
    checkGrace("kserve", service.spec.predictor.terminationGracePeriodSeconds, runtime.spec.containers[0]);
    assert.ok(checked.length >= 8);
  });

  test("keeps the workers of a group until the leader has drained", () => {
    const set = built.get("leader-worker-set")?.find(({ kind }) => kind === "LeaderWorkerSet");
    const [leader, worker] = podsOf(set).map(({ spec }) => spec.containers[0]);
    const call = callOf("leader", leader);
    const drained =
      preStopSeconds(leader) + Number(call.flags.get("drain-delay-s")) + Number(call.flags.get("shutdown-timeout-s"));
    assert.ok(preStopSeconds(worker) >= drained);
    assert.deepEqual(worker.args, leader.args);
    const perPod = Number(call.launcher?.get("nproc-per-node"));
    assert.equal(Number(call.flags.get("tp-size")), set.spec.leaderWorkerTemplate.size * perPod);
    assert.equal(Number(leader.resources.limits["nvidia.com/gpu"]), perPod);
  });

  test("selects the pods that it means", () => {
    for (const [folder, resources] of built) {
      const labels = resources.flatMap(podsOf).map(({ metadata }) => metadata.labels as Record<string, string>);
      const matches = (selector: Record<string, string>) =>
        labels.filter((one) => Object.entries(selector).every(([key, value]) => one[key] === value)).length;
      for (const { kind, spec } of resources) {
        const selector = kind === "Service" ? spec.selector : spec.selector?.matchLabels;
        if (selector !== undefined) assert.equal(matches(selector), 1, `${folder}, ${kind}`);
      }
    }
  });

  test("scales what is there, by the metric that the server has", () => {
    for (const folder of ["overlays/hpa", "overlays/keda"]) {
      const resources = built.get(folder) ?? [];
      const [deployment] = resources.filter(({ kind }) => kind === "Deployment");
      assert.equal(deployment.spec.replicas, undefined, `${folder}: replicas are the autoscaler's`);
      const scaler = resources.find(({ spec }) => spec.scaleTargetRef !== undefined);
      assert.equal(scaler.spec.scaleTargetRef.name, deployment.metadata.name);
      const metric = /vllm[:_]\w+/.exec(JSON.stringify(scaler.spec))?.[0].replace(/^vllm_/, "vllm:");
      assert.equal(metric, "vllm:num_requests_waiting" satisfies MetricName);
      assert.match(JSON.stringify(scaler.spec), /"stabilizationWindowSeconds":300/);
    }
  });

  test("runs as a user without rights, on a file system that is not written to", () => {
    for (const [name, container] of containers()) {
      const { allowPrivilegeEscalation, capabilities, readOnlyRootFilesystem } = container.securityContext;
      assert.equal(allowPrivilegeEscalation, false, name);
      assert.deepEqual(capabilities.drop, ["ALL"], name);
      if (!name.startsWith("kserve")) assert.equal(readOnlyRootFilesystem, true, name);
      assert.ok(!/:latest$/.test(container.image) && container.image.includes(":"), name);
    }
    for (const [name, pod] of pods()) {
      assert.equal(pod.spec.securityContext.runAsNonRoot, true, name);
      const volumes = pod.spec.volumes.map((volume: Resource) => volume.name).sort();
      const mounted = pod.spec.containers[0].volumeMounts.map((mount: Resource) => mount.name).sort();
      assert.deepEqual(mounted, volumes, name);
    }
  });
});
