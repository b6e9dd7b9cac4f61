#include "base/machine.h"

#include <sched.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <optional>
#include <thread>
#include <vector>

namespace shardspeed {

namespace {

constexpr uint64_t kUnknown = std::numeric_limits<uint64_t>::max();

// The number in a file; nothing for a missing file or "max".
std::optional<uint64_t> numberIn(const std::string& path) {
  std::ifstream file(path);
  uint64_t number;
  return file >> number ? std::optional(number) : std::nullopt;
}

// The number that follows a name in a file of names and numbers.
std::optional<uint64_t> numberOf(const std::string& path, const std::string& name) {
  std::ifstream file(path);
  std::string word;
  while (file >> word)
    if (word == name) {
      uint64_t number;
      return file >> number ? std::optional(number) : std::nullopt;
    }
  return std::nullopt;
}

// A folder of a control group around this process.
struct GroupFolder {
  int version;
  std::string path;
};

// A group and its parents. Inside a container the paths of the first may not exist: its own group is then the mount.
void addAround(int version, const std::string& mount, std::string group, std::vector<GroupFolder>& folders) {
  for (;;) {
    if (group == "/") group.clear();
    folders.push_back({version, mount + group});
    if (group.empty()) return;
    const size_t slash = group.rfind('/');
    group.resize(slash == std::string::npos ? 0 : slash);
  }
}

std::vector<GroupFolder> groupFolders(const std::string& root) {
  std::vector<GroupFolder> folders;
  const std::string mounts = root + "/sys/fs/cgroup";
  // Lines of "number:controllers:group"; version 2 is the one without controllers.
  std::ifstream groups(root + "/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string group = line.substr(second + 1);
    // Where both versions are in use, the second has a folder of its own.
    if (controllers.empty()) {
      addAround(2, mounts, group, folders);
      addAround(2, mounts + "/unified", group, folders);
    }
    for (const std::string name : {"memory", "cpu"})
      if (("," + controllers + ",").find("," + name + ",") != std::string::npos) {
        addAround(1, mounts + "/" + name, group, folders);
        if (controllers != name) addAround(1, mounts + "/" + controllers, group, folders);
      }
  }
  return folders;
}

uint64_t memoryLeftIn(const GroupFolder& folder) {
  const bool newer = folder.version == 2;
  const auto limit = numberIn(folder.path + (newer ? "/memory.max" : "/memory.limit_in_bytes"));
  // Beyond this one the system slows a group down.
  const auto high = newer ? numberIn(folder.path + "/memory.high") : std::nullopt;
  const auto used = numberIn(folder.path + (newer ? "/memory.current" : "/memory.usage_in_bytes"));
  if ((!limit && !high) || !used) return kUnknown;
  uint64_t reclaimable = 0;
  for (const char* name : {newer ? "inactive_file" : "total_inactive_file", newer ? "active_file" : "total_active_file",
                           "slab_reclaimable"})
    reclaimable += numberOf(folder.path + "/memory.stat", name).value_or(0);
  const uint64_t held = *used - std::min(*used, reclaimable);
  const uint64_t most = std::min(limit.value_or(kUnknown), high.value_or(kUnknown));
  return most - std::min(most, held);
}

// How many processors' time the group may take; nothing where it has no limit.
std::optional<double> quotaOf(const GroupFolder& folder) {
  std::optional<uint64_t> quota, period;
  if (folder.version == 2) {
    std::ifstream file(folder.path + "/cpu.max");
    uint64_t numbers[2];
    if (file >> numbers[0] >> numbers[1]) quota = numbers[0], period = numbers[1];
  } else {
    quota = numberIn(folder.path + "/cpu.cfs_quota_us");  // -1: none
    period = numberIn(folder.path + "/cpu.cfs_period_us");
    if (quota && *quota > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) quota = std::nullopt;
  }
  if (!quota || !period || *quota == 0 || *period == 0) return std::nullopt;
  return static_cast<double>(*quota) / static_cast<double>(*period);
}

}  // namespace

uint64_t availableMemoryBytes(const std::string& root) {
  const auto kilobytes = numberOf(root + "/proc/meminfo", "MemAvailable:");
  uint64_t least = kilobytes ? *kilobytes * 1024 : kUnknown;
  for (const GroupFolder& folder : groupFolders(root)) least = std::min(least, memoryLeftIn(folder));
  return least;
}

int availableProcessors(const std::string& root) {
  cpu_set_t allowed;
  // It fails where the machine has more processors than a cpu_set_t.
  int count = sched_getaffinity(0, sizeof allowed, &allowed) == 0
                  ? CPU_COUNT(&allowed)
                  : static_cast<int>(std::thread::hardware_concurrency());
  for (const GroupFolder& folder : groupFolders(root))
    if (const auto quota = quotaOf(folder); quota && *quota < count) count = static_cast<int>(*quota);
  return std::max(1, count);
}

}  // namespace shardspeed
