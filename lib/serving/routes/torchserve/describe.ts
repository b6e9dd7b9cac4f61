import type { RegisteredModel } from "../../registry.js";

/** A model version as TorchServe describes it (DescribeModelResponse.java), with what this server has besides. */
export function describeModel({
  pool,
  url,
  settings,
  minWorkers,
  maxWorkers,
  runtime,
  isLoadedAtStart,
}: RegisteredModel) {
  const { name, version, engine } = pool;
  const onGpu = engine?.devices.some((device) => device.startsWith("cuda")) ?? settings.deviceType === "gpu";
  return {
    modelName: name,
    modelVersion: version,
    modelUrl: url,
    runtime,
    minWorkers,
    maxWorkers,
    batchSize: settings.batchSize,
    maxBatchDelay: settings.maxBatchDelay,
    responseTimeout: settings.responseTimeout,
    startupTimeout: settings.startupTimeout,
    maxRetryTimeoutInSec: settings.maxRetryTimeoutInSec,
    clientTimeoutInMills: settings.clientTimeoutInMills,
    parallelType: settings.parallelType === "none" ? "" : settings.parallelType,
    parallelLevel: settings.parallelLevel,
    deviceType: onGpu ? "gpu" : "cpu",
    ...(settings.deviceIds.length === 0 ? {} : { deviceIds: settings.deviceIds }),
    continuousBatching: settings.continuousBatching,
    useJobTicket: settings.useJobTicket,
    useVenv: settings.useVenv,
    stateful: false,
    sequenceMaxIdleMSec: 0,
    sequenceTimeoutMSec: 0,
    maxNumSequence: 0,
    maxSequenceJobQueueSize: 0,
    loadedAtStartup: isLoadedAtStart,
    workers: pool.replicas.all.map(({ id, state, worker, startedAt, error }) => ({
      id,
      startTime: new Date(startedAt).toISOString(),
      status: state === "ready" ? "READY" : "UNLOADING",
      memoryUsage: worker?.pulse?.rssBytes ?? 0,
      pid: worker?.pid ?? -1,
      gpu: onGpu,
      gpuUsage: "N/A",
      ...(error === undefined ? {} : { error: error.message }),
    })),
    jobQueueStatus: {
      remainingCapacity: Math.max(0, settings.jobQueueSize - pool.waitingRequests),
      pendingRequests: pool.waitingRequests,
    },
  };
}
