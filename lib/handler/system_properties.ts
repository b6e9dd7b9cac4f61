/** The enumerable properties: keys of TorchServe's `system_properties`. */
export interface SystemPropertyValues {
  /** Folder of the extracted archive. */
  model_dir: string;
  /** Number of the model's first GPU; null on a CPU. */
  gpu_id: number | null;
  /** Maximum number of requests in a batch. */
  batch_size: number;
  /** As in Python, where handlers compare it. */
  server_name: "MMS";
  /** Version of the server. */
  server_version: string;
  /** Whether images of too many pixels are refused. */
  limit_max_image_pixels: boolean;
}

/** The same in camel case, and `get` as in Python's dictionaries. These are not enumerable. */
export interface SystemProperties extends Readonly<SystemPropertyValues> {
  /** Folder of the model. */
  readonly modelDir: string;
  /** Number of the handler's GPU; null: none. */
  readonly gpuId: number | null;
  /** Most requests of a batch. */
  readonly batchSize: number;
  /** As in Python, where handlers compare it. */
  readonly serverName: "MMS";
  /** Version of the server. */
  readonly serverVersion: string;
  /** Whether images of too many pixels are refused. */
  readonly limitMaxImagePixels: boolean;
  /** A value by its name in Python, such as "model_dir". */
  get<Name extends keyof SystemPropertyValues>(name: Name): SystemPropertyValues[Name];
  get<T = undefined>(name: string, otherwise?: T): unknown;
}

/** Read-only properties of the server and the model. */
export function createSystemProperties(values: SystemPropertyValues): SystemProperties {
  const properties = { ...values };
  for (const [name, value] of Object.entries(values)) {
    const camelCase = name.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase());
    Object.defineProperty(properties, camelCase, { value });
  }
  Object.defineProperty(properties, "get", {
    value: (name: string, otherwise?: unknown) =>
      name !== "get" && Object.hasOwn(properties, name) ? properties[name as keyof SystemPropertyValues] : otherwise,
  });
  return Object.freeze(properties) as unknown as SystemProperties;
}
