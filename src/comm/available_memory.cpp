#include "comm/available_memory.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <optional>

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

struct Names {
  const char *limit, *used, *inactive, *active;
};
constexpr Names kVersion1{"/memory.limit_in_bytes", "/memory.usage_in_bytes", "total_inactive_file",
                          "total_active_file"};
constexpr Names kVersion2{"/memory.max", "/memory.current", "inactive_file", "active_file"};

uint64_t leftIn(const std::string& folder, const Names& names) {
  const auto limit = numberIn(folder + names.limit), used = numberIn(folder + names.used);
  if (!limit || !used) return kUnknown;
  const std::string statistics = folder + "/memory.stat";
  const uint64_t cached =
      numberOf(statistics, names.inactive).value_or(0) + numberOf(statistics, names.active).value_or(0);
  const uint64_t held = *used - std::min(*used, cached);
  return *limit - std::min(*limit, held);
}

// The smallest limit of a group and its parents. Inside a container the paths of the parents may not exist.
uint64_t leftAround(const std::string& mount, std::string group, const Names& names) {
  uint64_t least = kUnknown;
  for (;;) {
    if (group == "/") group.clear();
    least = std::min(least, leftIn(mount + group, names));
    if (group.empty()) return least;
    const size_t slash = group.rfind('/');
    group.resize(slash == std::string::npos ? 0 : slash);
  }
}

}  // namespace

uint64_t availableMemoryBytes(const std::string& root) {
  const auto kilobytes = numberOf(root + "/proc/meminfo", "MemAvailable:");
  uint64_t least = kilobytes ? *kilobytes * 1024 : kUnknown;
  // Lines of "number:controllers:group"; version 2 is the one without controllers.
  std::ifstream groups(root + "/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    std::string controllers = line.substr(first, second - first);
    controllers.front() = ',';
    controllers.push_back(',');
    const std::string group = line.substr(second + 1);
    const std::string mount = root + "/sys/fs/cgroup";
    if (controllers == ",,") least = std::min(least, leftAround(mount, group, kVersion2));
    if (controllers.find(",memory,") != std::string::npos)
      least = std::min(least, leftAround(mount + "/memory", group, kVersion1));
  }
  return least;
}

}  // namespace shardspeed
