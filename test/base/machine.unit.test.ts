import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { describe, test } from "node:test";
import { type MachineLimits, processorShare, readMachineLimits } from "../../dist/base/machine.js";

const MB = 1_000_000;
const meminfo = { "proc/meminfo": "MemTotal:       64000 kB\nMemFree:  10 kB\nMemAvailable:   1000000 kB\n" };
const version2 = (path: string) => ({ "proc/self/cgroup": `0::${path}\n` });
const version1 = (path: string) => ({
  "proc/self/cgroup": `9:name=systemd:/\n4:memory:${path}\n3:cpu,cpuacct:${path}\n2:cpuset:/elsewhere\n`,
});

interface Case {
  name: string;
  files: Record<string, string>;
  expected: Partial<MachineLimits>;
}

const none = { availableBytes: 1_024_000_000, memoryLimitBytes: Number.POSITIVE_INFINITY, processors: 64 };
const cases: Case[] = [
  { name: "no control groups", files: {}, expected: none },
  { name: "groups without limits", files: version2("/a"), expected: none },
  {
    name: "version 2: page cache and reclaimable slab count as free",
    files: {
      ...version2("/"),
      "sys/fs/cgroup/memory.max": `${400 * MB}\n`,
      "sys/fs/cgroup/memory.current": `${390 * MB}\n`,
      "sys/fs/cgroup/memory.stat": `anon 5\nfile 7\ninactive_file ${300 * MB}\nactive_file ${20 * MB}\nslab_reclaimable ${10 * MB}\n`,
    },
    expected: { availableBytes: 340 * MB, memoryLimitBytes: 400 * MB },
  },
  {
    name: "version 2: the limit of a group further out",
    files: {
      ...version2("/pod/container/scope"),
      "sys/fs/cgroup/pod/container/scope/memory.max": "max\n",
      "sys/fs/cgroup/pod/container/scope/memory.current": `${MB}\n`,
      "sys/fs/cgroup/pod/memory.max": `${100 * MB}\n`,
      "sys/fs/cgroup/pod/memory.current": `${70 * MB}\n`,
      "sys/fs/cgroup/pod/container/cpu.max": "max 100000\n",
      "sys/fs/cgroup/pod/cpu.max": "350000 100000\n",
    },
    expected: { availableBytes: 30 * MB, memoryLimitBytes: 100 * MB, processors: 3 },
  },
  {
    name: "version 2: memory.high, beyond which the system slows a group down",
    files: {
      ...version2("/a"),
      "sys/fs/cgroup/a/memory.max": `${100 * MB}\n`,
      "sys/fs/cgroup/a/memory.high": `${80 * MB}\n`,
      "sys/fs/cgroup/a/memory.current": `${30 * MB}\n`,
    },
    expected: { availableBytes: 50 * MB, memoryLimitBytes: 80 * MB },
  },
  {
    name: "version 1: a group that the container does not see, whose own is the mount",
    files: {
      ...version1("/docker/0123"),
      "sys/fs/cgroup/memory/memory.limit_in_bytes": `${200 * MB}\n`,
      "sys/fs/cgroup/memory/memory.usage_in_bytes": `${190 * MB}\n`,
      "sys/fs/cgroup/memory/memory.stat": `inactive_file 1\ntotal_inactive_file ${100 * MB}\ntotal_active_file ${50 * MB}\n`,
      "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "200000\n",
      "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
    },
    expected: { availableBytes: 160 * MB, memoryLimitBytes: 200 * MB, processors: 2 },
  },
  {
    name: "version 1: no limits, as it writes them, and a folder of one controller's name",
    files: {
      ...version1("/a"),
      "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "9223372036854771712\n",
      "sys/fs/cgroup/memory/a/memory.usage_in_bytes": "5\n",
      "sys/fs/cgroup/cpu/a/cpu.cfs_quota_us": "-1\n",
      "sys/fs/cgroup/cpu/a/cpu.cfs_period_us": "100000\n",
      "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "400000\n",
      "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
    },
    expected: { ...none, processors: 4 },
  },
  {
    name: "both versions at once",
    files: {
      "proc/self/cgroup": "4:memory:/a\n0::/b\n",
      "sys/fs/cgroup/memory/a/memory.limit_in_bytes": `${300 * MB}\n`,
      "sys/fs/cgroup/memory/a/memory.usage_in_bytes": `${100 * MB}\n`,
      "sys/fs/cgroup/unified/b/cpu.max": "150000 100000\n",
    },
    expected: { availableBytes: 200 * MB, processors: 1 },
  },
  {
    name: "less than one processor is one, more than there are is what there are",
    files: {
      ...version2("/a/b"),
      "sys/fs/cgroup/a/b/cpu.max": "50000 100000\n",
      "sys/fs/cgroup/a/cpu.max": "9900000 100000",
    },
    expected: { processors: 1 },
  },
  {
    name: "a limit that is used up",
    files: { ...version2("/a"), "sys/fs/cgroup/a/memory.max": "5000\n", "sys/fs/cgroup/a/memory.current": "6000\n" },
    expected: { availableBytes: 0 },
  },
  {
    name: "files that say nothing",
    files: {
      "proc/self/cgroup": "0::/a\nnonsense\n::\n7:memory:relative\n",
      "sys/fs/cgroup/a/memory.max": "",
      "sys/fs/cgroup/a/memory.current": "-",
      "sys/fs/cgroup/a/cpu.max": "x y",
    },
    expected: none,
  },
];

describe("what containers leave a process", () => {
  for (const { name, files, expected } of cases) {
    test(name, () => {
      const root = mkdtempSync(join(tmpdir(), "shardspeed-machine-"));
      try {
        for (const [path, text] of Object.entries({ ...meminfo, ...files })) {
          mkdirSync(dirname(join(root, path)), { recursive: true });
          writeFileSync(join(root, path), text);
        }
        const limits = readMachineLimits(root, 64);
        assert.deepEqual({ ...limits, ...expected }, limits);
      } finally {
        rmSync(root, { recursive: true });
      }
    });
  }

  test("affinity counts", () => assert.equal(readMachineLimits("/nowhere", 3).processors, 3));

  test("something, here", () => {
    const { availableBytes, processors } = readMachineLimits();
    assert.ok(availableBytes > MB && Number.isFinite(availableBytes));
    assert.ok(processors >= 1);
  });
});

test("a process uses no more processors than its share", () => {
  const limits = { processors: 8 };
  for (const [text, processors] of [
    [undefined, 8],
    ["3", 3],
    ["20", 8],
    ["0", 8],
    ["-1", 8],
    ["many", 8],
  ] as const)
    assert.equal(processorShare({ SHARDSPEED_PROCESSORS: text }, limits), processors, text);
});
