#include "comm/shared_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <limits>
#include <string>

#include "check.h"
#include "comm/available_memory.h"

namespace shardspeed::test {

TEST(shared_memory, is_seen_by_all_and_stays_while_it_is_mapped) {
  const size_t bytes = 3 << 20;
  Descriptor memory = createSharedMemory(bytes);
  CHECK((fcntl(memory.number(), F_GETFD) & FD_CLOEXEC) != 0);
  const auto here = mapSharedMemory(memory, bytes);
  Descriptor opened = openSharedMemory(placeOf(memory, bytes), bytes);
  const auto there = mapSharedMemory(opened, bytes);
  memory.close();
  opened.close();
  CHECK(here.get() != there.get());
  here.get()[bytes - 1] = 77;
  CHECK_EQ(there.get()[bytes - 1], 77);
}

TEST(shared_memory, nobody_can_make_it_smaller) {
  const Descriptor memory = createSharedMemory(8192);
  CHECK(ftruncate(memory.number(), 4096) != 0);
  CHECK(ftruncate(memory.number(), 16384) != 0);
}

TEST(shared_memory, other_places_are_refused) {
  const size_t bytes = 8192;
  const Descriptor memory = createSharedMemory(bytes), another = createSharedMemory(bytes);
  const SharedMemoryPlace place = placeOf(memory, bytes);
  const auto refused = [&](const char* part, const std::function<void(SharedMemoryPlace&)>& change) {
    SharedMemoryPlace wrong = place;
    change(wrong);
    CHECK_THROWS("ERR_COMM", part, openSharedMemory(wrong, bytes));
  };
  refused("on another host than rank 0", [](auto& wrong) { wrong.bootId[0] ^= 1; });
  refused("on another host than rank 0", [](auto& wrong) { wrong.bootId.clear(); });
  refused("in another pid namespace", [](auto& wrong) { ++wrong.pidNamespace; });
  refused("cannot be opened at /proc/", [](auto& wrong) { wrong.process = 1u << 30; });
  refused("cannot be opened at /proc/", [](auto& wrong) { wrong.descriptor = 1u << 30; });
  refused("another file", [&](auto& wrong) { wrong.descriptor = static_cast<uint64_t>(another.number()); });
  refused("another file", [](auto& wrong) { ++wrong.device; });
  refused("where rank 0 shares 4096", [](auto& wrong) { wrong.bytes = 4096; });
  CHECK(openSharedMemory(place, bytes).open());
}

TEST(shared_memory, more_than_there_is) {
  CHECK_THROWS("ERR_OUT_OF_MEMORY", "bytes are available", createSharedMemory(size_t{1} << 60));
  CHECK_THROWS("ERR_OUT_OF_MEMORY", "bytes of memory shared", createSharedMemory(std::numeric_limits<size_t>::max()));
}

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

TEST(shared_memory, what_is_available_is_the_least_of_all_limits) {
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

TEST(shared_memory, something_is_available_here) {
  const uint64_t available = availableMemoryBytes();
  CHECK(available > (1 << 20));
  CHECK(available < (uint64_t{1} << 50));
}

}  // namespace shardspeed::test
