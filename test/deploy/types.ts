import path from "node:path";
import ts from "typescript";
import { root } from "../package/programs.js";
import type { Resource } from "./kustomize.js";

const own = JSON.stringify(path.join(root, "test/deploy/custom_resources.ts"));

/** The type of each kind of object, as a module exports it. */
const typeOf: Readonly<Record<string, string>> = {
  Deployment: 'import("kubernetes-models/apps/v1/Deployment").IDeployment',
  Service: 'import("kubernetes-models/v1/Service").IService',
  PodDisruptionBudget: 'import("kubernetes-models/policy/v1/PodDisruptionBudget").IPodDisruptionBudget',
  HorizontalPodAutoscaler:
    'import("kubernetes-models/autoscaling/v2/HorizontalPodAutoscaler").IHorizontalPodAutoscaler',
  ScaledObject: 'import("@kubernetes-models/keda/keda.sh/v1alpha1/ScaledObject").IScaledObject',
  LeaderWorkerSet: `import(${own}).LeaderWorkerSet`,
  ServingRuntime: `import(${own}).ServingRuntime`,
  InferenceService: `import(${own}).InferenceService`,
  Kustomization: `import(${own}).Kustomization`,
};

/**
 * What the TypeScript compiler says about objects against the types of their kinds: missing keys, wrong values and, as the validators of
 * kubernetes-models do not, keys that are not known.
 */
export function findTypeErrors(resources: readonly Resource[]): string[] {
  const lines = resources.map((resource, i) => {
    const type = typeOf[resource.kind] ?? `import("no type is known for ${resource.kind}")`;
    return `export const object${i}: ${type} = ${JSON.stringify(resource)};`;
  });
  // Not on the disk; beside the sources, so that packages are found.
  const file = path.join(root, "test/deploy/generated_objects.ts");
  const options: ts.CompilerOptions = {
    noEmit: true,
    strict: true,
    skipLibCheck: true,
    target: ts.ScriptTarget.ES2023,
    module: ts.ModuleKind.NodeNext,
    allowImportingTsExtensions: true,
    types: [],
  };
  const host = ts.createCompilerHost(options);
  const { getSourceFile, fileExists, readFile } = host;
  const text = lines.join("\n");
  host.getSourceFile = (name, ...rest) =>
    name === file ? ts.createSourceFile(name, text, ts.ScriptTarget.ES2023) : getSourceFile.call(host, name, ...rest);
  host.fileExists = (name) => name === file || fileExists.call(host, name);
  host.readFile = (name) => (name === file ? text : readFile.call(host, name));
  const program = ts.createProgram([file], options, host);
  return ts.getPreEmitDiagnostics(program).map(({ messageText, start = 0 }) => {
    const index = text.slice(0, start).split("\n").length - 1;
    const { kind, metadata } = resources[index] ?? {};
    return `${kind} ${metadata?.name ?? ""}: ${ts.flattenDiagnosticMessageText(messageText, " ")}`;
  });
}
