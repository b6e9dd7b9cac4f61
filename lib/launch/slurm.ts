import { type LauncherVariables, type Lookup, type Variable, wrong } from "./variables.js";

/**
 * What Slurm says of a task that srun has started among others. An sbatch script and the shell of an salloc have SLURM_PROCID=0 and the tasks
 * of the whole job as well, but are no task of a step: they are alone.
 */
export function findSlurmStep(lookup: Lookup): LauncherVariables | undefined {
  const rank = lookup("SLURM_PROCID");
  const step = lookup("SLURM_STEP_ID", "SLURM_STEPID");
  const worldSize = lookup("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS", "SLURM_NPROCS");
  if (rank === undefined || step === undefined || worldSize === undefined || worldSize.value === "1") return undefined;
  const job = lookup("SLURM_JOB_ID", "SLURM_JOBID");
  return {
    launcher: "slurm",
    rank,
    worldSize,
    localRank: lookup("SLURM_LOCALID"),
    localWorldSize: findLocalWorldSize(lookup, Number(worldSize.value)),
    masterAddr: findFirstNode(lookup),
    launchId: `slurm ${job?.value ?? ""}.${step.value}`,
  };
}

/** The tasks of this node, from the first list that is about as many tasks as the step has: the other may be about the whole job. */
function findLocalWorldSize(lookup: Lookup, worldSize: number): Variable | undefined {
  const node = Number(lookup("SLURM_NODEID")?.value ?? 0);
  for (const name of ["SLURM_STEP_TASKS_PER_NODE", "SLURM_TASKS_PER_NODE"]) {
    const list = lookup(name);
    if (list === undefined) continue;
    const counts = expandTasksPerNode(list);
    const local = counts[node];
    if (local !== undefined && counts.reduce((sum, count) => sum + count, 0) === worldSize) {
      return { name: `${name} on this node`, value: String(local) };
    }
  }
  return undefined;
}

/**
 * Rank 0 runs on the first node of its step. The node that srun was called on, which Slurm names too, may be a login node: it comes last.
 */
function findFirstNode(lookup: Lookup): Variable | undefined {
  const list = lookup("SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST", "SLURM_NODELIST");
  if (list === undefined) return lookup("SLURM_LAUNCH_NODE_IPADDR");
  return { name: list.name, value: expandNodeList(list)[0] as string };
}

/** More nodes than any cluster has: a list that says more is a mistake. */
const maxNodes = 65536;

/**
 * The tasks of each node: "2(x3),1" is 2, 2, 2, 1.
 *
 * @throws ShardspeedError ERR_CONFIG where it is no such list.
 */
export function expandTasksPerNode(list: Variable): number[] {
  const counts: number[] = [];
  for (const item of list.value.split(",")) {
    const match = /^(\d{1,7})(?:\(x(\d{1,7})\))?$/.exec(item);
    const times = Number(match?.[2] ?? 1);
    if (match === null || counts.length + times > maxNodes) throw wrong([list], "numbers of tasks such as 2(x3),1");
    counts.push(...new Array<number>(times).fill(Number(match[1])));
  }
  return counts;
}

/**
 * The nodes of a list in Slurm's short form: "gpu[003-005,9],login1" is gpu003, gpu004, gpu005, gpu9, login1.
 *
 * @throws ShardspeedError ERR_CONFIG where it is no such list.
 */
export function expandNodeList(list: Variable): string[] {
  // Commas inside brackets belong to their item.
  const items = list.value.match(/(?:[^,[\]]|\[[^[\]]*\])+/g) ?? [];
  if (items.join(",") !== list.value || items.length === 0) throw wrong([list], expectedNodes);
  return items.flatMap((item) => expandNode(item, list));
}

const expectedNodes = "nodes such as gpu[003-005,9],login1";

function expandNode(item: string, list: Variable): string[] {
  const match = /^([^[\]]*)\[([^[\]]*)\](.*)$/.exec(item);
  if (match === null) return [item];
  const [, prefix = "", ranges = "", rest = ""] = match;
  const ends = expandNode(rest, list);
  const names: string[] = [];
  for (const range of ranges.split(",")) {
    const [, low, high = low] = /^(\d{1,9})(?:-(\d{1,9}))?$/.exec(range) ?? [];
    const count = Number(high) - Number(low) + 1;
    if (low === undefined || count < 1 || names.length + count * ends.length > maxNodes)
      throw wrong([list], expectedNodes);
    for (let number = Number(low); number <= Number(high); number++) {
      const name = prefix + String(number).padStart(low.length, "0");
      for (const end of ends) names.push(name + end);
    }
  }
  return names;
}
