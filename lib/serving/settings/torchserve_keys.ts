/** A key of TorchServe that sets nothing here. */
export interface IgnoredKey {
  /** What a warning says. */
  reason: string;
  /** The values that ask for what is done anyway: no warning then. */
  fine?: readonly string[];
}

const noJava = "there is no Java virtual machine";
const noNetty = "Node has its own threads";
const noGrpc = "there is no gRPC: use the HTTP APIs";
const noPython = "there is no Python";
const noSequences = "requests are not kept together as sequences";
const noSnapshots = "no snapshots of the configuration are written";
const ownPorts = "workers are reached without ports";
const pemOnly = "Java's key stores are not read: name PEM files by private_key_file and certificate_file";
const noVendor = "the engine has its own kernels";

const reasons: Readonly<Record<string, string | IgnoredKey>> = {
  async_logging: "logs never wait",
  cpp_log_config: "there is no C++ backend to log",
  cpu_launcher_args: noVendor,
  cpu_launcher_enable: { reason: noVendor, fine: ["false"] },
  debug: { reason: "use --log-level debug", fine: ["false"] },
  default_service_handler: "a model names its handler in its manifest or its model-config.yaml",
  enable_grpc_ssl: { reason: noGrpc, fine: ["false"] },
  grpc_inference_address: noGrpc,
  grpc_inference_max_connection_age_grace_ms: noGrpc,
  grpc_inference_max_connection_age_ms: noGrpc,
  grpc_inference_port: noGrpc,
  grpc_management_address: noGrpc,
  grpc_management_max_connection_age_grace_ms: noGrpc,
  grpc_management_max_connection_age_ms: noGrpc,
  grpc_management_port: noGrpc,
  initial_distribution_port: ownPorts,
  initial_worker_port: ownPorts,
  install_py_dep_per_model: { reason: noPython, fine: ["false"] },
  io_ratio: noNetty,
  ipex_enable: { reason: noVendor, fine: ["false"] },
  ipex_gpu_enable: { reason: noVendor, fine: ["false"] },
  keystore: pemOnly,
  keystore_pass: pemOnly,
  keystore_type: pemOnly,
  limit_max_image_pixels: "no images are decoded",
  max_response_size: "responses are not limited",
  metric_time_interval: "metrics are measured when they are read",
  metrics_config: "metrics need no file",
  metrics_format: { reason: "metrics are in the format that the reader accepts", fine: ["prometheus"] },
  metrics_mode: { reason: "metrics are always at /metrics, and not in a log", fine: ["prometheus"] },
  model_metrics_auto_detect: "handlers' own metrics are not exported",
  model_server_home: noPython,
  model_snapshot: noSnapshots,
  netty_client_threads: noNetty,
  number_of_gpu: "set CUDA_VISIBLE_DEVICES, or deviceIds in model-config.yaml",
  number_of_netty_threads: noNetty,
  plugins_path: noJava,
  prefer_direct_buffer: noNetty,
  python: noPython,
  service_envelope: "requests reach handlers as they are sent",
  snapshot_store: noSnapshots,
  system_metrics_cmd: "metrics of the system are measured without a command",
  token_expiration_min: "keys do not expire",
  ts_header_key_sequence_end: noSequences,
  ts_header_key_sequence_id: noSequences,
  ts_header_key_sequence_start: noSequences,
  ts_open_inference_protocol: { reason: "KServe's version 2 is always served", fine: ["true"] },
  tsConfigFile: noSnapshots,
  use_native_io: noNetty,
  version: noSnapshots,
  vmargs: noJava,
  workflow_store: "there are no workflows",
};

/** TorchServe's keys without effect. */
export const ignoredKeys: ReadonlyMap<string, IgnoredKey> = new Map(
  Object.entries(reasons).map(([key, row]) => [key, typeof row === "string" ? { reason: row } : row]),
);

/** Keys that say how config.properties itself counts. */
export const readerKeys = ["enable_envvars_config", "use_env_allowed_urls"] as const;
