import type { CudaDevice, CudaReport, EngineEvent, EnginePlan, NativeBinding } from "../../dist/native/binding.js";

/** A GPU that can be used, but for what is changed. */
export function cudaDevice(index: number, changes: Partial<CudaDevice> = {}): CudaDevice {
  const name = "NVIDIA H100 80GB HBM3";
  return { index, name, computeCapability: "9.0", totalBytes: 85e9, freeBytes: 80e9, usable: true, ...changes };
}

/** What a CUDA build says on a machine with these devices. */
export function cudaReport(devices: CudaDevice[], changes: Partial<CudaReport> = {}): CudaReport {
  return { built: true, emulated: false, driverVersion: "13.0", runtimeVersion: "13.0", devices, ...changes };
}

export const cpuBuild: CudaReport = {
  built: false,
  emulated: false,
  problem: "This build has no CUDA backend.",
  devices: [],
};

/** A native engine that does nothing by itself: tests say what happens. */
export class FakeEngine {
  readonly submitted: number[] = [];
  readonly cancelled: number[] = [];
  closed = 0;

  constructor(
    readonly plan: EnginePlan,
    readonly emit: (...events: EngineEvent[]) => void,
  ) {}
}

/** A binding whose engines are fakes, in the order of their making. */
export function fakeBinding(report: CudaReport = cpuBuild): { binding: NativeBinding; engines: FakeEngine[] } {
  const engines: FakeEngine[] = [];
  const binding: NativeBinding = {
    createEngine(plan, onEvents) {
      const engine = new FakeEngine(plan, (...events) => onEvents(events));
      engines.push(engine);
      setImmediate(() => engine.emit({ kind: "ready", loadMs: 1, overflows: [] }));
      return {
        submit: ({ id }) => void engine.submitted.push(id),
        cancel: (id) => void engine.cancelled.push(id),
        stats: () => ({
          ...{ running: 0, waiting: 0, steps: 0, promptTokens: 0, generatedTokens: 0, preemptions: 0 },
          ...{ kvPagesTotal: plan.kvCachePages, kvPagesFree: plan.kvCachePages },
          ...{
            stepMs: 0,
            groupMs: 0,
            prefixQueries: 0,
            prefixHits: 0,
            kvPagesFindable: 0,
            drafts: 0,
            draftTokens: 0,
            acceptedTokens: 0,
            acceptedAt: [],
          },
          memory: plan.devices.map(() => ({
            ...{ weightBytes: 1e9, activationBytes: 1e6, kvCacheBytes: plan.kvCachePages * 1e6 },
          })),
        }),
        close: async () => {
          engine.closed++;
        },
      };
    },
    unsupported: () => null,
    estimateMemory: (plan) => plan.devices.map(() => ({ weightBytes: 1e9, activationBytes: 1e6, kvPageBytes: 1e6 })),
    shardShapes: () => ({}),
    openListener: () => ({ descriptor: -1, port: 1 }),
    closeListener: () => {},
    writeTensors: () => ({ done: Promise.resolve(), cancel() {}, writtenBytes: () => 0 }),
    openVocabulary: () => ({
      compileGrammar: async () => ({ number: 1, states: 1, begin: () => ({ fill: () => null, accept() {} }) }),
    }),
    cudaReport: () => report,
    cpuFeatures: () => ({ kernels: "portable", available: ["portable"] }),
    buildInfo: () => ({ compiler: "none", cuda: report.built }),
    measureReadBandwidth: () => 0,
    measureFmaPeak: () => 0,
    measureAllReduce: () => 0,
    measureCopy: () => 0,
    measureAttention: () => ({ attend: [], read: [], bytes: 0 }),
  };
  return { binding, engines };
}

/** A logger that keeps lines, each with its level. */
export function recordingLogger() {
  const lines: string[] = [];
  const take = (level: string) => (message: string) => void lines.push(`${level}: ${message}`);
  return { lines, debug: take("debug"), info: take("info"), warn: take("warn"), error: take("error") };
}
