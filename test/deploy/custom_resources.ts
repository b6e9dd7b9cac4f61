import type { IObjectMeta } from "@kubernetes-models/apimachinery/apis/meta/v1/ObjectMeta";
import type { IContainer } from "kubernetes-models/v1/Container";
import type { IPodSpec } from "kubernetes-models/v1/PodSpec";
import type { IPodTemplateSpec } from "kubernetes-models/v1/PodTemplateSpec";

// Objects of LeaderWorkerSet and KServe, whose schemas no package of the registry carries. These are written by hand after the published Go types
// (leaderworkerset.x-k8s.io/v1, serving.kserve.io/v1alpha1 and v1beta1), and are a subset: a key that is not here may be right all the same.

export interface LeaderWorkerSet {
  apiVersion: "leaderworkerset.x-k8s.io/v1";
  kind: "LeaderWorkerSet";
  metadata: IObjectMeta;
  spec: {
    replicas?: number;
    leaderWorkerTemplate: {
      leaderTemplate?: IPodTemplateSpec;
      workerTemplate: IPodTemplateSpec;
      size?: number;
      restartPolicy?: "RecreateGroupOnPodRestart" | "RecreateGroupAfterStart" | "None";
    };
    startupPolicy?: "LeaderCreated" | "LeaderReady";
    rolloutStrategy?: {
      type: "RollingUpdate";
      rollingUpdateConfiguration?: { partition?: number; maxUnavailable?: number | string; maxSurge?: number | string };
    };
    networkConfig?: { subdomainPolicy: "Shared" | "UniquePerReplica" };
  };
}

export interface ServingRuntime {
  apiVersion: "serving.kserve.io/v1alpha1";
  kind: "ServingRuntime";
  metadata: IObjectMeta;
  spec: Pick<IPodSpec, "volumes" | "nodeSelector" | "affinity" | "tolerations" | "imagePullSecrets" | "hostIPC"> & {
    containers: IContainer[];
    labels?: Record<string, string>;
    annotations?: Record<string, string>;
    supportedModelFormats?: { name: string; version?: string; autoSelect?: boolean; priority?: number }[];
    protocolVersions?: ("v1" | "v2" | "grpc-v1" | "grpc-v2" | "openai")[];
    multiModel?: boolean;
    disabled?: boolean;
    replicas?: number;
  };
}

/** A predictor is a pod with these beside its own keys. */
export interface InferenceService {
  apiVersion: "serving.kserve.io/v1beta1";
  kind: "InferenceService";
  metadata: IObjectMeta;
  spec: {
    predictor: Partial<IPodSpec> & {
      minReplicas?: number;
      maxReplicas?: number;
      scaleTarget?: number;
      scaleMetric?: "cpu" | "memory" | "concurrency" | "rps";
      containerConcurrency?: number;
      timeout?: number;
      labels?: Record<string, string>;
      annotations?: Record<string, string>;
      model?: Partial<IContainer> & {
        modelFormat: { name: string; version?: string };
        runtime?: string;
        protocolVersion?: "v1" | "v2" | "grpc-v1" | "grpc-v2" | "openai";
        storageUri?: string;
      };
    };
  };
}

/** A file of kustomize, with the keys that deploy/ uses. */
export interface Kustomization {
  apiVersion: "kustomize.config.k8s.io/v1beta1";
  kind: "Kustomization";
  resources: string[];
  patches?: { target: { kind: string; name: string }; patch: string }[];
  images?: { name: string; newTag: string }[];
}
