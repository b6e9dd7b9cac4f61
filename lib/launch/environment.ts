import { createHash } from "node:crypto";
import { findSlurmStep } from "./slurm.js";
import { type Launcher, type LauncherVariables, type Lookup, type Variable, wrong } from "./variables.js";

/** What a launcher's variables say of this process and of the others that were started with it. */
export interface LaunchEnvironment {
  /** 0 to worldSize - 1, over all hosts. */
  rank: number;
  worldSize: number;
  /** 0 to localWorldSize - 1, among the ranks of this host. */
  localRank: number;
  localWorldSize: number;
  /** A host name or an IP address: where rank 0 is found. */
  masterAddr: string;
  /** 1 to 65535. */
  masterPort: number;
  launcher: Launcher;
  /** torchrun's agent listens on masterPort itself: rank 0 cannot. */
  agentHoldsPort: boolean;
  /** What sets this start apart from others that use the same port; equal on all ranks. Default: nothing. */
  launchId?: string;
}

/** Where a launcher names no port and nothing to derive one from. */
const defaultPort = 29500;

/**
 * Reads how this process was launched. RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE (LOCAL_SIZE of DeepSpeed's launcher), MASTER_ADDR and
 * MASTER_PORT win over what Slurm, Open MPI and MPICH set under their own names.
 *
 * @returns undefined where this process was started alone.
 * @throws ShardspeedError ERR_CONFIG where the variables are incomplete or contradict each other.
 */
export function readLaunchEnvironment(env: NodeJS.ProcessEnv = process.env): LaunchEnvironment | undefined {
  const lookup: Lookup = (...names) => {
    const name = names.find((candidate) => env[candidate]?.trim());
    return name === undefined ? undefined : { name, value: (env[name] as string).trim() };
  };
  const own = findLauncher(lookup);
  const rankVariable = lookup("RANK") ?? own?.rank;
  const sizeVariable = lookup("WORLD_SIZE") ?? own?.worldSize;
  if (rankVariable === undefined && sizeVariable === undefined) return undefined;
  if (rankVariable === undefined || sizeVariable === undefined) {
    throw wrong([rankVariable, sizeVariable], "RANK and WORLD_SIZE (or those of the launcher) to be set both");
  }
  const worldSize = readInteger(sizeVariable, 1, maxWorldSize);
  const rank = readInteger(rankVariable, 0, worldSize - 1, sizeVariable);
  const local = readLocal(lookup, own, { rank, worldSize });
  // Whoever has numbered the ranks has given them all the same: under torchrun those of Slurm may well differ from node to node.
  const launchId = (lookup("RANK") === undefined ? own?.launchId : lookup("TORCHELASTIC_RUN_ID")?.value) ?? "";
  return {
    rank,
    worldSize,
    ...local,
    masterAddr: readAddress(lookup, own, worldSize, local.localWorldSize),
    masterPort: readPort(lookup, launchId),
    launcher: nameLauncher(lookup, own),
    agentHoldsPort: lookup("TORCHELASTIC_USE_AGENT_STORE")?.value.toLowerCase() === "true",
    launchId,
  };
}

/** More processes than any launcher starts: a larger number is a mistake, and lists of ranks stay small. */
export const maxWorldSize = 65536;

/**
 * The launcher that has set variables of its own. Open MPI and Hydra come first: inside a Slurm job they start their daemons by srun, whose
 * variables the ranks then inherit.
 */
function findLauncher(lookup: Lookup): LauncherVariables | undefined {
  const openMpi = lookup("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE");
  if (openMpi !== undefined) {
    return {
      launcher: "openmpi",
      rank: lookup("OMPI_COMM_WORLD_RANK"),
      worldSize: lookup("OMPI_COMM_WORLD_SIZE"),
      localRank: lookup("OMPI_COMM_WORLD_LOCAL_RANK"),
      localWorldSize: lookup("OMPI_COMM_WORLD_LOCAL_SIZE"),
      launchId: lookup("PMIX_NAMESPACE")?.value,
    };
  }
  const slurm = findSlurmStep(lookup);
  const localRank = lookup("MPI_LOCALRANKID", "PMI_LOCAL_RANK");
  // Under srun --mpi=pmi2 there are PMI_RANK and PMI_SIZE too, but not the local ones: those of Slurm say more.
  if (lookup("PMI_RANK", "PMI_SIZE") !== undefined && (slurm === undefined || localRank !== undefined)) {
    return {
      launcher: "mpich",
      rank: lookup("PMI_RANK"),
      worldSize: lookup("PMI_SIZE"),
      localRank,
      localWorldSize: lookup("MPI_LOCALNRANKS", "PMI_LOCAL_SIZE"),
    };
  }
  if (slurm !== undefined) return slurm;
  // A pod of an indexed Job may well be alone: it is a rank only where a world is named.
  const index = lookup("JOB_COMPLETION_INDEX");
  if (index === undefined || lookup("WORLD_SIZE") === undefined) return undefined;
  return { launcher: "kubernetes", rank: index };
}

function nameLauncher(lookup: Lookup, own: LauncherVariables | undefined): Launcher {
  if (lookup("RANK") === undefined) return own?.launcher ?? "environment";
  if (lookup("TORCHELASTIC_RUN_ID") !== undefined) return "torchrun";
  if (lookup("SHARDSPEED_LAUNCHER") !== undefined) return "shardspeed";
  if (
    lookup("LOCAL_WORLD_SIZE") === undefined &&
    lookup("LOCAL_SIZE") !== undefined &&
    lookup("CROSS_SIZE") !== undefined
  ) {
    return "deepspeed";
  }
  if (own !== undefined) return own.launcher;
  return lookup("KUBERNETES_SERVICE_HOST") === undefined ? "environment" : "kubernetes";
}

/** Of a launcher that counts hosts the ranks of this host; of one that does not, as in Kubernetes, that each rank has a host of its own. */
function readLocal(
  lookup: Lookup,
  own: LauncherVariables | undefined,
  { rank, worldSize }: { rank: number; worldSize: number },
): { localRank: number; localWorldSize: number } {
  // Those of a launcher hold for the rank that it has numbered, not for one that was numbered anew on top of it.
  const isOwn =
    (own?.rank === undefined || Number(own.rank.value) === rank) &&
    (own?.worldSize === undefined || Number(own.worldSize.value) === worldSize);
  const rankVariable = lookup("LOCAL_RANK") ?? (isOwn ? own?.localRank : undefined);
  // DeepSpeed's own launcher calls it LOCAL_SIZE, and so may anything else: it counts only beside LOCAL_RANK.
  const deepSpeed = rankVariable?.name === "LOCAL_RANK" ? lookup("LOCAL_SIZE") : undefined;
  const sizeVariable = lookup("LOCAL_WORLD_SIZE") ?? deepSpeed ?? (isOwn ? own?.localWorldSize : undefined);
  if (rankVariable === undefined && sizeVariable === undefined) {
    const countsHosts = isOwn && own !== undefined && own.launcher !== "kubernetes" && worldSize > 1;
    if (countsHosts) throw wrong([own.rank, own.worldSize], "LOCAL_RANK and LOCAL_WORLD_SIZE to be set too");
    return { localRank: 0, localWorldSize: 1 };
  }
  if (rankVariable === undefined || sizeVariable === undefined) {
    throw wrong([rankVariable, sizeVariable], "LOCAL_RANK and LOCAL_WORLD_SIZE to be set both, or neither");
  }
  const localWorldSize = readInteger(sizeVariable, 1, worldSize);
  return { localRank: readInteger(rankVariable, 0, localWorldSize - 1, sizeVariable), localWorldSize };
}

function readAddress(
  lookup: Lookup,
  own: LauncherVariables | undefined,
  worldSize: number,
  localWorldSize: number,
): string {
  const given = lookup("MASTER_ADDR");
  if (given === undefined && worldSize === localWorldSize) return "127.0.0.1";
  const address = given ?? own?.masterAddr;
  if (address === undefined) {
    const sizes: Variable[] = [
      { name: "WORLD_SIZE", value: String(worldSize) },
      { name: "LOCAL_WORLD_SIZE", value: String(localWorldSize) },
    ];
    throw wrong(sizes, "MASTER_ADDR to be set: the host of rank 0, as the ranks are on several hosts");
  }
  const bare = address.value.replace(/^\[(.*)\]$/, "$1");
  if (!/^[\p{L}\p{N}._:%-]+$/u.test(bare)) throw wrong([address], `${address.name} to be a host name or an IP address`);
  return bare;
}

function readPort(lookup: Lookup, launchId: string): number {
  const given = lookup("MASTER_PORT");
  return given === undefined ? derivePort(launchId) : readInteger(given, 1, 65535);
}

/**
 * A port that all ranks of a start compute alike, and that two starts on one host seldom share. The multiples of 16 leave each start the
 * ports that follow its own, and all are below those that the system hands out by itself.
 */
export function derivePort(launchId: string): number {
  if (launchId === "") return defaultPort;
  const slots = (32768 - 16384) / 16;
  return 16384 + 16 * (createHash("sha256").update(launchId).digest().readUInt32BE() % slots);
}

function readInteger(variable: Variable, least: number, most: number, bound?: Variable): number {
  const value = /^\d{1,9}$/.test(variable.value) ? Number(variable.value) : Number.NaN;
  if (value >= least && value <= most) return value;
  throw wrong([variable, bound], `${variable.name} to be an integer from ${least} to ${most}`);
}
