import { readFileSync, statSync } from "node:fs";
import path from "node:path";
import { parseAllDocuments } from "yaml";

/** A YAML object whose shape is not known. */
// biome-ignore lint/suspicious/noExplicitAny: what it holds is what the tests are about.
export type Resource = any;

/** The documents of a YAML file; a key that is there twice is an error. */
export function readYaml(file: string): Resource[] {
  return parseAllDocuments(readFileSync(file, "utf8")).map((document) => {
    if (document.errors.length > 0) throw new Error(`${file}: ${document.errors[0]?.message}`);
    return document.toJS();
  });
}

/** Keys of a kustomization that this knows; another one would be taken for done. */
const known = ["apiVersion", "kind", "resources", "patches", "images"];

/** What `kubectl kustomize FOLDER` writes, for kustomizations of resources, JSON patches and tags of images. */
export function build(folder: string): Resource[] {
  const [kustomization] = readYaml(path.join(folder, "kustomization.yaml"));
  const unknown = Object.keys(kustomization).filter((key) => !known.includes(key));
  if (unknown.length > 0) throw new Error(`${folder}: this builder does not know ${unknown}`);
  const resources: Resource[] = kustomization.resources.flatMap((name: string) => {
    const file = path.join(folder, name);
    return statSync(file).isDirectory() ? build(file) : readYaml(file);
  });
  for (const { target, patch } of kustomization.patches ?? []) {
    const found = resources.filter(({ kind, metadata }) => kind === target.kind && metadata.name === target.name);
    if (found.length !== 1) throw new Error(`${folder}: ${found.length} resources are ${JSON.stringify(target)}`);
    for (const operation of parseAllDocuments(patch)[0]?.toJS() ?? []) applyOperation(found[0], operation);
  }
  for (const { name, newTag } of kustomization.images ?? []) {
    for (const container of resources.flatMap(containersOf)) {
      if (container.image.split(":")[0] === name) container.image = `${name}:${newTag}`;
    }
  }
  return resources;
}

/** One operation of a JSON patch (RFC 6902). */
function applyOperation(resource: Resource, { op, path: place, value }: Record<string, string>): void {
  const keys = (place ?? "")
    .split("/")
    .slice(1)
    .map((key) => key.replaceAll("~1", "/").replaceAll("~0", "~"));
  const last = keys.pop() ?? "";
  const parent = keys.reduce((one, key) => one?.[key], resource);
  if (parent === undefined) throw new Error(`There is nothing at ${place}`);
  if (op === "remove" && last in parent) delete parent[last];
  else if (op === "add" && Array.isArray(parent) && last === "-") parent.push(value);
  else if (op === "add" && !Array.isArray(parent)) parent[last] = value;
  else throw new Error(`Cannot ${op} ${place}`);
}

/** The pods that a resource starts, each with its template's metadata. */
export function podsOf({ kind, spec }: Resource): Resource[] {
  if (kind === "Deployment") return [spec.template];
  if (kind === "LeaderWorkerSet")
    return [spec.leaderWorkerTemplate.leaderTemplate, spec.leaderWorkerTemplate.workerTemplate];
  return [];
}

export function containersOf(resource: Resource): Resource[] {
  if (resource.kind === "ServingRuntime") return resource.spec.containers;
  return podsOf(resource).flatMap((pod) => pod.spec.containers);
}
