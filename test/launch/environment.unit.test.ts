import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { ShardspeedError } from "../../dist/base/errors.js";
import { derivePort, readLaunchEnvironment } from "../../dist/launch/environment.js";
import { expandNodeList, expandTasksPerNode } from "../../dist/launch/slurm.js";

type Variables = Record<string, string>;

const torchrun: Variables = {
  RANK: "5",
  LOCAL_RANK: "1",
  WORLD_SIZE: "8",
  LOCAL_WORLD_SIZE: "4",
  MASTER_ADDR: "node1",
  MASTER_PORT: "29400",
  GROUP_RANK: "1",
  TORCHELASTIC_RUN_ID: "abc",
  TORCHELASTIC_USE_AGENT_STORE: "True",
};

// As deepspeed/launcher/launch.py sets them for the second rank of the second of two hosts.
const deepspeed: Variables = {
  RANK: "3",
  LOCAL_RANK: "1",
  WORLD_SIZE: "4",
  LOCAL_SIZE: "2",
  CROSS_RANK: "1",
  CROSS_SIZE: "2",
  MASTER_ADDR: "node1",
  MASTER_PORT: "29500",
};

// As srun sets them for task 5 of 7 on three nodes.
const srun: Variables = {
  SLURM_PROCID: "5",
  SLURM_LOCALID: "1",
  SLURM_NTASKS: "7",
  SLURM_STEP_NUM_TASKS: "7",
  SLURM_STEP_TASKS_PER_NODE: "2(x2),3",
  SLURM_TASKS_PER_NODE: "4(x3)",
  SLURM_NODEID: "2",
  SLURM_STEP_NODELIST: "gpu[003-004,9]",
  SLURM_JOB_NODELIST: "gpu[003-004,9]",
  SLURM_LAUNCH_NODE_IPADDR: "10.0.0.1",
  SLURM_JOB_ID: "4711",
  SLURM_STEP_ID: "0",
};

const openMpi: Variables = {
  OMPI_COMM_WORLD_RANK: "3",
  OMPI_COMM_WORLD_SIZE: "4",
  OMPI_COMM_WORLD_LOCAL_RANK: "3",
  OMPI_COMM_WORLD_LOCAL_SIZE: "4",
  PMIX_NAMESPACE: "prterun-host-1@1",
};

const hydra: Variables = { PMI_RANK: "2", PMI_SIZE: "4", MPI_LOCALRANKID: "0", MPI_LOCALNRANKS: "2" };

describe("launchers", () => {
  test("torchrun", () => {
    assert.deepEqual(readLaunchEnvironment(torchrun), {
      rank: 5,
      worldSize: 8,
      localRank: 1,
      localWorldSize: 4,
      masterAddr: "node1",
      masterPort: 29400,
      launcher: "torchrun",
      agentHoldsPort: true,
      launchId: "abc",
    });
    assert.equal(readLaunchEnvironment({ ...torchrun, TORCHELASTIC_USE_AGENT_STORE: "False" })?.agentHoldsPort, false);
  });

  test("DeepSpeed's own", () => {
    const place = readLaunchEnvironment(deepspeed);
    assert.deepEqual([place?.rank, place?.worldSize, place?.localRank, place?.localWorldSize], [3, 4, 1, 2]);
    assert.deepEqual([place?.launcher, place?.masterAddr, place?.masterPort], ["deepspeed", "node1", 29500]);
    // LOCAL_WORLD_SIZE says the same under a name that nothing else uses.
    const both = readLaunchEnvironment({ ...deepspeed, LOCAL_WORLD_SIZE: "4", LOCAL_RANK: "3" });
    assert.deepEqual([both?.localRank, both?.localWorldSize], [3, 4]);
    // A launcher that numbers ranks under its own names does not mean a LOCAL_SIZE that stands there by chance.
    assert.equal(readLaunchEnvironment({ ...openMpi, LOCAL_SIZE: "9" })?.localWorldSize, 4);
    const { LOCAL_RANK, ...unnumbered } = deepspeed;
    assert.equal(readLaunchEnvironment(unnumbered)?.localWorldSize, 1);
  });

  test("srun", () => {
    assert.deepEqual(readLaunchEnvironment(srun), {
      rank: 5,
      worldSize: 7,
      localRank: 1,
      localWorldSize: 3,
      masterAddr: "gpu003",
      masterPort: derivePort("slurm 4711.0"),
      launcher: "slurm",
      agentHoldsPort: false,
      launchId: "slurm 4711.0",
    });
  });

  test("srun on one node: nobody outside of it is to reach the ranks", () => {
    const one = { ...srun, SLURM_STEP_TASKS_PER_NODE: "7", SLURM_NODEID: "0", SLURM_STEP_NODELIST: "gpu003" };
    const place = readLaunchEnvironment(one);
    assert.equal(place?.localWorldSize, 7);
    assert.equal(place?.masterAddr, "127.0.0.1");
  });

  test("a smaller step of a job: the job's lists are not the step's", () => {
    const step = { ...srun, SLURM_PROCID: "1", SLURM_STEP_NUM_TASKS: "2", SLURM_STEP_TASKS_PER_NODE: "1(x2)" };
    const place = readLaunchEnvironment({ ...step, SLURM_LOCALID: "0", SLURM_NODEID: "1" });
    assert.deepEqual([place?.worldSize, place?.localWorldSize], [2, 1]);
  });

  test("srun without the lists of the step takes those of the job, and the node it was called on last", () => {
    const { SLURM_STEP_NODELIST, SLURM_STEP_TASKS_PER_NODE, SLURM_STEP_NUM_TASKS, ...old } = srun;
    assert.equal(readLaunchEnvironment({ ...old, SLURM_TASKS_PER_NODE: "2(x2),3" })?.masterAddr, "gpu003");
    const { SLURM_JOB_NODELIST, ...older } = old;
    assert.equal(readLaunchEnvironment({ ...older, SLURM_TASKS_PER_NODE: "2(x2),3" })?.masterAddr, "10.0.0.1");
    assert.throws(
      () => readLaunchEnvironment(old),
      isConfigError(/found SLURM_LOCALID=1, expected LOCAL_RANK and LOCAL_WORLD_SIZE/),
    );
  });

  test("Open MPI", () => {
    const place = readLaunchEnvironment(openMpi);
    assert.deepEqual([place?.rank, place?.worldSize, place?.localRank, place?.localWorldSize], [3, 4, 3, 4]);
    assert.equal(place?.launcher, "openmpi");
    assert.equal(place?.masterAddr, "127.0.0.1");
    assert.equal(place?.masterPort, derivePort("prterun-host-1@1"));
  });

  test("MPICH, Intel MPI: on several hosts MASTER_ADDR is asked for", () => {
    assert.throws(() => readLaunchEnvironment(hydra), isConfigError(/WORLD_SIZE=4, LOCAL_WORLD_SIZE=2.*MASTER_ADDR/));
    const place = readLaunchEnvironment({ ...hydra, MASTER_ADDR: "node1" });
    assert.deepEqual([place?.rank, place?.worldSize, place?.localRank, place?.localWorldSize], [2, 4, 0, 2]);
    assert.deepEqual([place?.launcher, place?.masterAddr, place?.masterPort], ["mpich", "node1", 29500]);
    const { MPI_LOCALRANKID, MPI_LOCALNRANKS, ...pals } = hydra;
    assert.throws(() => readLaunchEnvironment(pals), isConfigError(/PMI_RANK=2, PMI_SIZE=4.*LOCAL_RANK/));
    assert.equal(readLaunchEnvironment({ ...pals, PMI_LOCAL_RANK: "2", PMI_LOCAL_SIZE: "4" })?.localRank, 2);
  });

  test("mpirun in a Slurm job: its daemons are the tasks of srun, not the ranks", () => {
    const daemon = { ...srun, SLURM_PROCID: "0", SLURM_LOCALID: "0" };
    assert.equal(readLaunchEnvironment({ ...daemon, ...openMpi })?.launcher, "openmpi");
    const place = readLaunchEnvironment({ ...daemon, ...hydra, MASTER_ADDR: "a" });
    assert.deepEqual([place?.launcher, place?.rank], ["mpich", 2]);
    // srun --mpi=pmi2 sets these, and nothing local.
    assert.equal(readLaunchEnvironment({ ...srun, PMI_RANK: "5", PMI_SIZE: "7" })?.launcher, "slurm");
  });

  test("Kubernetes: PyTorchJob and indexed Job", () => {
    const job = { RANK: "1", WORLD_SIZE: "3", MASTER_ADDR: "job-master-0", MASTER_PORT: "23456" };
    const place = readLaunchEnvironment({ ...job, KUBERNETES_SERVICE_HOST: "10.0.0.1" });
    assert.deepEqual([place?.launcher, place?.localRank, place?.localWorldSize], ["kubernetes", 0, 1]);
    assert.equal(readLaunchEnvironment(job)?.launcher, "environment");
    const indexed = { JOB_COMPLETION_INDEX: "2", WORLD_SIZE: "3", MASTER_ADDR: "job-0.svc" };
    assert.equal(readLaunchEnvironment(indexed)?.rank, 2);
    assert.equal(readLaunchEnvironment(indexed)?.launcher, "kubernetes");
    assert.equal(readLaunchEnvironment({ JOB_COMPLETION_INDEX: "2" }), undefined);
  });

  test("shardspeed run", () => {
    const place = readLaunchEnvironment({
      ...openMpi,
      ...torchrun,
      TORCHELASTIC_RUN_ID: "",
      SHARDSPEED_LAUNCHER: "run",
    });
    assert.equal(place?.launcher, "shardspeed");
    assert.equal(place?.launchId, "");
  });

  test("the generic names win over those of a launcher, one by one", () => {
    const place = readLaunchEnvironment({ ...srun, MASTER_ADDR: "[fe80::1]", MASTER_PORT: "1234", RANK: "5" });
    assert.deepEqual([place?.masterAddr, place?.masterPort, place?.rank], ["fe80::1", 1234, 5]);
    assert.deepEqual([place?.worldSize, place?.localRank, place?.localWorldSize], [7, 1, 3]);
    // Numbered anew: the launcher's local numbers are about others.
    const anew = readLaunchEnvironment({ ...srun, RANK: "0", WORLD_SIZE: "2", MASTER_ADDR: "a" });
    assert.deepEqual([anew?.localRank, anew?.localWorldSize], [0, 1]);
  });
});

describe("alone", () => {
  const batch = { SLURM_PROCID: "0", SLURM_LOCALID: "0", SLURM_NTASKS: "4", SLURM_NODEID: "0", SLURM_JOB_ID: "1" };
  const alone: [string, Variables][] = [
    ["nothing set", {}],
    ["only where rank 0 would be", { MASTER_ADDR: "a", MASTER_PORT: "1" }],
    ["only a local rank", { LOCAL_RANK: "0" }],
    ["salloc", { SLURM_JOB_ID: "1", SLURM_NTASKS: "4", SLURM_JOB_NODELIST: "gpu[1-4]" }],
    ["an sbatch script of four tasks", batch],
    ["srun of one task", { ...srun, SLURM_PROCID: "0", SLURM_STEP_NUM_TASKS: "1", SLURM_NTASKS: "1" }],
    ["the interactive step of an salloc", { ...batch, SLURM_STEP_ID: "4294967290", SLURM_STEP_NUM_TASKS: "1" }],
    ["set to nothing", { RANK: "", WORLD_SIZE: " " }],
  ];
  for (const [name, variables] of alone) {
    test(name, () => assert.equal(readLaunchEnvironment(variables), undefined));
  }
});

describe("wrong", () => {
  const base = { RANK: "1", WORLD_SIZE: "2", MASTER_ADDR: "a", MASTER_PORT: "1" };
  const cases: [string, Variables, RegExp][] = [
    ["no WORLD_SIZE", { RANK: "1" }, /found RANK=1, expected RANK and WORLD_SIZE/],
    ["no RANK", { WORLD_SIZE: "4" }, /found WORLD_SIZE=4, expected RANK and WORLD_SIZE/],
    ["half of Open MPI's", { OMPI_COMM_WORLD_SIZE: "4" }, /found OMPI_COMM_WORLD_SIZE=4/],
    [
      "rank too large",
      { ...base, RANK: "2" },
      /found RANK=2, WORLD_SIZE=2, expected RANK to be an integer from 0 to 1/,
    ],
    ["rank negative", { ...base, RANK: "-1" }, /RANK=-1/],
    ["rank no number", { ...base, RANK: "one" }, /RANK=one/],
    ["rank no integer", { ...base, RANK: "1.0" }, /RANK=1\.0/],
    ["world of none", { ...base, WORLD_SIZE: "0" }, /WORLD_SIZE=0, expected WORLD_SIZE to be an integer from 1/],
    ["world without end", { ...base, WORLD_SIZE: "99999999999999999999" }, /WORLD_SIZE/],
    ["port 0", { ...base, MASTER_PORT: "0" }, /MASTER_PORT=0, expected MASTER_PORT to be an integer from 1 to 65535/],
    ["port too large", { ...base, MASTER_PORT: "65536" }, /MASTER_PORT=65536/],
    ["address with a scheme", { ...base, MASTER_ADDR: "tcp://a:1" }, /MASTER_ADDR=tcp:\/\/a:1, .*host name/],
    ["no address", { RANK: "1", WORLD_SIZE: "2" }, /expected MASTER_ADDR to be set/],
    ["local rank alone", { ...base, LOCAL_RANK: "0" }, /found LOCAL_RANK=0, expected LOCAL_RANK and LOCAL_WORLD_SIZE/],
    ["local size alone", { ...base, LOCAL_WORLD_SIZE: "1" }, /found LOCAL_WORLD_SIZE=1, expected/],
    ["DeepSpeed's local size too small", { ...deepspeed, LOCAL_SIZE: "1" }, /LOCAL_RANK=1, LOCAL_SIZE=1/],
    ["local rank too large", { ...base, LOCAL_RANK: "1", LOCAL_WORLD_SIZE: "1" }, /LOCAL_RANK=1, LOCAL_WORLD_SIZE=1/],
    ["local size too large", { ...base, LOCAL_RANK: "1", LOCAL_WORLD_SIZE: "3" }, /LOCAL_WORLD_SIZE=3/],
    ["Slurm's tasks", { ...srun, SLURM_STEP_TASKS_PER_NODE: "2(y3)" }, /SLURM_STEP_TASKS_PER_NODE=2\(y3\)/],
    ["Slurm's nodes", { ...srun, SLURM_STEP_NODELIST: "gpu[1-" }, /SLURM_STEP_NODELIST=gpu\[1-/],
  ];
  for (const [name, variables, message] of cases) {
    test(name, () => assert.throws(() => readLaunchEnvironment(variables), isConfigError(message)));
  }
});

test("any values at all: a place that is whole, nothing, or ERR_CONFIG", () => {
  const names = [
    ...new Set([torchrun, deepspeed, srun, openMpi, hydra].flatMap((variables) => Object.keys(variables))),
  ];
  const number = fc.integer({ min: -1, max: 9 }).map(String);
  const value = fc.oneof(
    { weight: 6, arbitrary: number },
    fc.constantFrom("", "2(x3),1", "a[1-3]", "x y"),
    fc.string(),
  );
  const junk = fc.dictionary(fc.constantFrom(...names, "JOB_COMPLETION_INDEX", "SHARDSPEED_LAUNCHER"), value, {
    maxKeys: 6,
  });
  // Variables that are all random hardly ever make a place: most starts are those of a launcher, with a few changed.
  const start = fc.constantFrom<Variables>({}, torchrun, srun, openMpi, hydra);
  const variables = fc.tuple(start, junk).map(([launcher, changes]) => ({ ...launcher, ...changes }));
  const seen = { place: 0, alone: 0, wrong: 0 };
  fc.assert(
    fc.property(variables, (env) => {
      try {
        const place = readLaunchEnvironment(env);
        seen[place === undefined ? "alone" : "place"]++;
        if (place === undefined) return;
        assert.ok(place.rank >= 0 && place.rank < place.worldSize);
        assert.ok(place.localRank >= 0 && place.localRank < place.localWorldSize);
        assert.ok(place.localWorldSize <= place.worldSize);
        assert.ok(place.masterPort >= 1 && place.masterPort <= 65535);
        assert.match(place.masterAddr, /^\S+$/);
      } catch (error) {
        assert.ok(isConfigError(/./)(error), String(error));
        seen.wrong++;
      }
    }),
    { numRuns: 3000 },
  );
  assert.ok(seen.place > 0 && seen.alone > 0 && seen.wrong > 0, JSON.stringify(seen));
});

test("every rank of a start computes the same port, away from those that the system hands out", () => {
  assert.equal(derivePort(""), 29500);
  fc.assert(
    fc.property(fc.string({ minLength: 1 }), (id) => {
      const port = derivePort(id);
      assert.ok(port >= 16384 && port + 15 < 32768 && port % 16 === 0);
      assert.equal(derivePort(id), port);
    }),
  );
});

describe("Slurm's short lists", () => {
  const nodes = (value: string) => expandNodeList({ name: "NODES", value });
  const tasks = (value: string) => expandTasksPerNode({ name: "TASKS", value });

  test("of nodes", () => {
    assert.deepEqual(nodes("gpu[003-005,9],login1"), ["gpu003", "gpu004", "gpu005", "gpu9", "login1"]);
    assert.deepEqual(nodes("a"), ["a"]);
    assert.deepEqual(nodes("n[8-11]x"), ["n8x", "n9x", "n10x", "n11x"]);
    assert.deepEqual(nodes("r[0-1]n[01-02]"), ["r0n01", "r0n02", "r1n01", "r1n02"]);
    for (const bad of ["", ",", "a,", "a[", "a[]", "a[1-]", "a[2-1]", "a[x]", "a]b", "a[0-999999999]", "a[[1]]"]) {
      assert.throws(() => nodes(bad), isConfigError(/NODES=/), bad);
    }
  });

  test("of tasks", () => {
    assert.deepEqual(tasks("2(x3),1"), [2, 2, 2, 1]);
    assert.deepEqual(tasks("8"), [8]);
    for (const bad of ["", "x", "2(x)", "2(3)", "2(x3", "1,,2", "1(x9999999)"]) {
      assert.throws(() => tasks(bad), isConfigError(/TASKS=/), bad);
    }
  });

  test("are read back as they were, whatever they list", () => {
    const run = fc.record({
      first: fc.nat(500),
      count: fc.integer({ min: 1, max: 20 }),
      width: fc.integer({ min: 1, max: 5 }),
    });
    const group = fc.record({
      prefix: fc.stringMatching(/^[a-z]{1,5}-?$/),
      runs: fc.array(run, { minLength: 1, maxLength: 4 }),
    });
    fc.assert(
      fc.property(fc.array(group, { minLength: 1, maxLength: 4 }), (groups) => {
        const pad = (number: number, width: number) => String(number).padStart(width, "0");
        const short = groups.map(({ prefix, runs }) => {
          const ranges = runs.map(({ first, count, width }) => `${pad(first, width)}-${pad(first + count - 1, width)}`);
          return `${prefix}[${ranges.join(",")}]`;
        });
        const long = groups.flatMap(({ prefix, runs }) =>
          runs.flatMap(({ first, count, width }) =>
            Array.from({ length: count }, (_, i) => prefix + pad(first + i, width)),
          ),
        );
        assert.deepEqual(nodes(short.join(",")), long);
        assert.deepEqual(nodes(long.join(",")), long);
      }),
    );
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(99), fc.integer({ min: 1, max: 9 })), { minLength: 1 }), (counts) => {
        const short = counts.map(([count, times]) => (times === 1 ? `${count}` : `${count}(x${times})`)).join(",");
        assert.deepEqual(
          tasks(short),
          counts.flatMap(([count, times]) => new Array(times).fill(count)),
        );
      }),
    );
  });
});

function isConfigError(message: RegExp): (error: unknown) => boolean {
  return (error) => ShardspeedError.isInstance(error) && error.code === "ERR_CONFIG" && message.test(error.message);
}
