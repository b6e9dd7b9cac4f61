#include "runtime/device.h"

#include <cstdlib>
#include <map>

#include "base/error.h"
#include "cpu/cpu_backend.h"

namespace shardspeed {

static std::map<std::string, DeviceKind>& kinds() {
  // Never destroyed: an engine's thread may still run when the process exits.
  static auto& known = *new std::map<std::string, DeviceKind>{{"cpu", cpuDeviceKind()}};
  return known;
}

void addDeviceKind(const std::string& name, const DeviceKind& kind) {
  kinds()[name] = kind;
}

Device deviceOf(const std::string& name) {
  const size_t colon = name.find(':');
  const auto found = kinds().find(name.substr(0, colon));
  if (found == kinds().end()) throw Error("ERR_NATIVE", "this build has no device " + name);
  return {found->second, colon == std::string::npos ? 0 : std::atoi(name.c_str() + colon + 1)};
}

}  // namespace shardspeed
