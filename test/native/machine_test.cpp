#include "base/machine.h"

#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <limits>
#include <string>

#include "check.h"

namespace shardspeed::test {

// A folder with files of their own as /proc and /sys.
class FakeSystem {
 public:
  FakeSystem() {
    std::string pattern = (std::filesystem::temp_directory_path() / "shardspeed-XXXXXX").string();
    REQUIRE(mkdtemp(pattern.data()) != nullptr);
    root_ = pattern;
  }
  ~FakeSystem() { std::filesystem::remove_all(root_); }
  const std::string& root() const { return root_; }
  void write(const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(root_ + path).parent_path());
    std::ofstream(root_ + path) << text;
  }

 private:
  std::string root_;
};

TEST(machine, what_memory_is_available_is_the_least_of_all_limits) {
  FakeSystem system;
  CHECK_EQ(availableMemoryBytes(system.root()), std::numeric_limits<uint64_t>::max());
  system.write("/proc/meminfo", "MemTotal:       2000 kB\nMemAvailable:   1000 kB\n");
  CHECK_EQ(availableMemoryBytes(system.root()), 1024000u);
  system.write("/proc/self/cgroup", "3:cpu:/x\n0::/outer/inner\n");
  CHECK_EQ(availableMemoryBytes(system.root()), 1024000u);
  system.write("/sys/fs/cgroup/outer/inner/memory.max", "max\n");
  system.write("/sys/fs/cgroup/outer/inner/memory.current", "70000\n");
  CHECK_EQ(availableMemoryBytes(system.root()), 1024000u);
  system.write("/sys/fs/cgroup/outer/memory.max", "100000\n");
  system.write("/sys/fs/cgroup/outer/memory.current", "80000\n");
  system.write("/sys/fs/cgroup/outer/memory.stat", "anon 5\ninactive_file 6000\nactive_file 700\n");
  CHECK_EQ(availableMemoryBytes(system.root()), 26700u);
  // In a container the file names a group that is not to be seen from inside.
  system.write("/proc/self/cgroup", "4:cpu,memory:/host/path\n");
  system.write("/sys/fs/cgroup/memory/memory.limit_in_bytes", "50000\n");
  system.write("/sys/fs/cgroup/memory/memory.usage_in_bytes", "60000\n");
  CHECK_EQ(availableMemoryBytes(system.root()), 0u);
  system.write("/sys/fs/cgroup/memory/memory.stat", "total_inactive_file 30000\ntotal_active_file 0\n");
  CHECK_EQ(availableMemoryBytes(system.root()), 20000u);
}

TEST(machine, quotas_bound_the_processors) {
  FakeSystem system;
  const int allowed = availableProcessors(system.root());
  CHECK(allowed >= 1);
  system.write("/proc/self/cgroup", "0::/pod/container\n");
  system.write("/sys/fs/cgroup/pod/container/cpu.max", "max 100000\n");
  CHECK_EQ(availableProcessors(system.root()), allowed);
  system.write("/sys/fs/cgroup/pod/container/cpu.max", "900000000 100000\n");
  CHECK_EQ(availableProcessors(system.root()), allowed);
  // Rounded down, of any group around this one.
  system.write("/sys/fs/cgroup/pod/cpu.max", "199000 100000\n");
  CHECK_EQ(availableProcessors(system.root()), 1);
  system.write("/sys/fs/cgroup/pod/cpu.max", "20000 100000\n");
  CHECK_EQ(availableProcessors(system.root()), 1);
  system.write("/proc/self/cgroup", "4:cpu,cpuacct:/docker/1\n");
  system.write("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
  system.write("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
  CHECK_EQ(availableProcessors(system.root()), allowed);
  system.write("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "100000\n");
  CHECK_EQ(availableProcessors(system.root()), 1);
}

TEST(machine, reclaimable_slab_counts_as_free_and_high_as_a_limit) {
  FakeSystem system;
  system.write("/proc/self/cgroup", "0::/\n");
  system.write("/sys/fs/cgroup/unified/memory.max", "max\n");
  system.write("/sys/fs/cgroup/unified/memory.high", "100000\n");
  system.write("/sys/fs/cgroup/unified/memory.current", "90000\n");
  system.write("/sys/fs/cgroup/unified/memory.stat", "inactive_file 20000\nslab_reclaimable 5000\n");
  CHECK_EQ(availableMemoryBytes(system.root()), 35000u);
}

TEST(machine, something_is_available_here) {
  const uint64_t available = availableMemoryBytes();
  CHECK(available > (1 << 20));
  CHECK(available < (uint64_t{1} << 50));
  CHECK(availableProcessors() >= 1);
}

}  // namespace shardspeed::test
