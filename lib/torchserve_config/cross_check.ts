import type { Findings, Given, Place } from "./findings.js";
import type { YamlMap } from "./yaml_tree.js";

/** What is right key by key, and wrong together. */
export function crossCheck(given: Given, file: YamlMap, findings: Findings): void {
  checkWorkers(given, findings);
  checkRanks(given, file, findings);
  checkDevices(given, findings);
  const [async, continuous] = [given.get("asyncCommunication"), given.get("continuousBatching")];
  if (async?.value === true && continuous?.value === false) {
    findings.error(
      continuous.valuePlace,
      "continuousBatching: false, and asyncCommunication, which is the same, is true: remove one",
    );
  }
}

function checkWorkers(given: Given, findings: Findings): void {
  const [least, most] = [given.get("minWorkers"), given.get("maxWorkers")];
  if (most === undefined) return;
  const minimum = (least?.value as number | undefined) ?? 1;
  if ((most.value as number) < minimum) {
    findings.error(
      most.valuePlace,
      `maxWorkers: expected at least minWorkers, which is ${minimum}, found ${most.value}`,
    );
  }
}

function checkRanks(given: Given, file: YamlMap, findings: Findings): void {
  const [level, processes] = [given.get("parallelLevel"), given.get("torchrun.nproc-per-node")];
  const said = level !== undefined && level.value !== 0 ? level : undefined;
  if (said !== undefined && processes !== undefined && said.value !== processes.value) {
    const other = `torchrun.nproc-per-node, which is the same, is ${processes.value}`;
    findings.error(said.valuePlace, `parallelLevel: ${said.value}, and ${other}: remove one`);
  }
  const type = given.get("parallelType");
  const ranks = said ?? processes;
  if (type?.value === "tp" && ranks === undefined) {
    const advice = "give parallelLevel or torchrun.nproc-per-node";
    findings.warn(
      type.valuePlace,
      `parallelType: tp without a number of ranks: ${advice}, or the DeepSpeed config decides`,
    );
  }
  const wrongType = file.entries.has("parallelType") && type === undefined;
  if (ranks !== undefined && (ranks.value as number) > 1 && (type?.value ?? "none") === "none" && !wrongType) {
    const key = ranks === said ? "parallelLevel" : "torchrun.nproc-per-node";
    findings.warn(ranks.valuePlace, `${key}: no effect here: it counts with "parallelType: tp" only`);
  }
}

function checkDevices(given: Given, findings: Findings): void {
  const devices = given.get("deviceIds");
  const count = (devices?.value as number[] | undefined)?.length ?? 0;
  if (devices === undefined || count === 0) return;
  if (given.get("deviceType")?.value === "cpu") {
    findings.warn(devices.valuePlace, "deviceIds: no effect here: deviceType is cpu");
    return;
  }
  if (given.get("parallelType")?.value !== "tp") return;
  const level = (given.get("parallelLevel")?.value as number | undefined) || undefined;
  const ranks = level ?? (given.get("torchrun.nproc-per-node")?.value as number | undefined);
  if (ranks === undefined) return;
  checkDeviceCount(
    devices.valuePlace,
    count,
    ranks,
    (given.get("minWorkers")?.value as number | undefined) ?? 1,
    findings,
  );
}

function checkDeviceCount(place: Place, count: number, ranks: number, workers: number, findings: Findings): void {
  const [fitting, idle] = [Math.floor(count / ranks), count % ranks];
  if (fitting === 0) {
    findings.error(place, `deviceIds: expected at least ${ranks}, one for each rank, found ${count}`);
  } else if (fitting < workers) {
    findings.error(
      place,
      `deviceIds: expected ${ranks * workers}, for ${workers} workers of ${ranks} ranks, found ${count}`,
    );
  } else if (idle > 0) {
    findings.warn(place, `deviceIds: ${idle} of the ${count} is not used: a worker takes ${ranks}`);
  }
}
