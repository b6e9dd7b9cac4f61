import { ShardspeedError } from "../../base/errors.js";
import { type Address, isLoopback, isSameAddress, showAddress } from "./address.js";
import type { Listeners, Origin, Origins, ResolvedSettings } from "./resolved.js";
import type { ServerSettings, SettingName } from "./table.js";
import { whyNotExpression } from "./whole_match.js";

const ranks = { default: 0, "config.properties": 1, environment: 2, option: 3, flag: 4 } as const;

/**
 * What settings mean for each other.
 *
 * @throws ShardspeedError ERR_INVALID_ARGUMENT, ERR_CONFIG for settings that contradict each other.
 */
export function planServer(values: ServerSettings, origins: Origins, warnings: readonly string[]): ResolvedSettings {
  const listeners = planListeners(values, origins);
  checkModels(values, origins);
  checkTls(values, origins, listeners);
  checkKeys(values, origins);
  checkExpressions(values, origins);
  return { values, origins, listeners, warnings: [...warnings, ...remarkOn(values, listeners)] };
}

function planListeners(values: ServerSettings, origins: Origins): Listeners {
  const inference = planInference(values, origins);
  const isOnePort = values.modelFolder !== undefined;
  const onLoopback = (port: number): Address => ({ isTls: false, host: "127.0.0.1", port });
  const addresses = {
    inference,
    management: values.managementAddress ?? (isOnePort ? undefined : onLoopback(8081)),
    metrics: values.metricsAddress ?? (isOnePort ? inference : onLoopback(8082)),
  };
  // One listener is one object.
  const { management } = addresses;
  if (management !== undefined && isSameAddress(management, inference)) addresses.management = inference;
  for (const other of [inference, addresses.management])
    if (other !== undefined && isSameAddress(other, addresses.metrics)) addresses.metrics = other;
  return addresses;
}

/** The address with the host and port that are given apart, unless these are from a source that counts less. */
function planInference(values: ServerSettings, origins: Origins): Address {
  const { inferenceAddress: address, host, port } = values;
  const counts = (name: SettingName) => ranks[origins[name].source] >= ranks[origins.inferenceAddress.source];
  const given = {
    ...(host !== undefined && counts("host") ? { host: host.replace(/^\[(.*)\]$/, "$1") } : {}),
    ...(port !== undefined && counts("port") ? { port } : {}),
  };
  if ("socketPath" in address) {
    if (Object.keys(given).length === 0) return address;
    throw contradiction(origins.inferenceAddress, "is a socket, which has neither host nor port");
  }
  const isTls = address.isTls || (hasCertificate(values) && origins.inferenceAddress.source === "default");
  return { ...address, ...given, isTls };
}

function hasCertificate({ sslKeyFile, sslCertificateFile }: ServerSettings): boolean {
  return sslKeyFile !== undefined && sslCertificateFile !== undefined;
}

function checkModels(values: ServerSettings, origins: Origins): void {
  const { modelFolder, modelStore, loadModels, servedModelNames, enableModelApi } = values;
  if (loadModels === "all" && modelStore === undefined)
    throw contradiction(origins.loadModels, "is all, which needs a model store: --model-store");
  if (servedModelNames.length > 0 && modelFolder === undefined)
    throw contradiction(origins.servedModelNames, "names MODEL, and there is none: --models NAME=PATH names models");
  if (modelFolder === undefined && modelStore === undefined && loadModels.length === 0 && !enableModelApi)
    throw new ShardspeedError(
      "ERR_INVALID_ARGUMENT",
      "There is nothing to serve: give a model folder, --models NAME=PATH, or --model-store FOLDER",
    );
}

function checkTls(values: ServerSettings, origins: Origins, listeners: Listeners): void {
  const { sslKeyFile, sslCertificateFile } = values;
  if (sslKeyFile !== undefined && sslCertificateFile === undefined)
    throw contradiction(origins.sslKeyFile, "needs a certificate: --ssl-certfile, or certificate_file");
  if (sslCertificateFile !== undefined && sslKeyFile === undefined)
    throw contradiction(origins.sslCertificateFile, "needs a private key: --ssl-keyfile, or private_key_file");
  for (const address of Object.values(listeners)) {
    if (address === undefined || !("isTls" in address) || !address.isTls || hasCertificate(values)) continue;
    throw new ShardspeedError(
      "ERR_CONFIG",
      `${showAddress(address)} needs a certificate and its key as PEM files: --ssl-certfile and --ssl-keyfile, or certificate_file and private_key_file`,
    );
  }
}

/** Who asks for authorization must not get a server without any. */
function checkKeys(values: ServerSettings, origins: Origins): void {
  const origin = origins.disableTokenAuthorization;
  if (values.disableTokenAuthorization || origin.source === "default" || hasKeys(values)) return;
  throw contradiction(origin, "asks for keys, and there are none: give --api-key-file, or SHARDSPEED_API_KEY");
}

/** Those of texts were checked where they were read, and those of values in the code are here. */
function checkExpressions({ allowedUrls, hiddenVariables }: ServerSettings, origins: Origins): void {
  const check = (name: SettingName, source: string, ignoresCase: boolean) => {
    const reason = whyNotExpression(source, { ignoresCase });
    if (reason !== undefined) throw contradiction(origins[name], `is no regular expression: ${reason}`);
  };
  for (const source of allowedUrls) check("allowedUrls", source, true);
  if (hiddenVariables !== undefined) check("hiddenVariables", hiddenVariables, false);
}

/** Whether requests need a key. */
export function hasKeys(values: ServerSettings): boolean {
  return !values.disableTokenAuthorization && (values.apiKeyFile !== undefined || values.apiKey !== undefined);
}

function remarkOn(values: ServerSettings, listeners: Listeners): string[] {
  const remarks: string[] = [];
  if (values.disableTokenAuthorization && (values.apiKeyFile ?? values.apiKey) !== undefined)
    remarks.push("There are API keys, but no request needs one: authorization is switched off");
  const open = Object.entries(listeners).filter(([, address]) => address !== undefined && !isLoopback(address));
  if (!hasKeys(values) && open.length > 0) {
    const apis = open.map(([api]) => api).join(", ");
    remarks.push(
      `Other machines reach this server without a key (${apis}): give --api-key-file, or SHARDSPEED_API_KEY`,
    );
  }
  return remarks;
}

function contradiction({ source, place }: Origin, text: string): ShardspeedError {
  return new ShardspeedError(source === "flag" ? "ERR_INVALID_ARGUMENT" : "ERR_CONFIG", `${place} ${text}`);
}
