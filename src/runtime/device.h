#pragma once

#include <string>

#include "backend_kind.h"

namespace shardspeed {

// Before the first engine is made: not for several threads at once.
void addDeviceKind(const std::string& name, const DeviceKind& kind);

// A device by its name: a kind, or a kind, ":" and an index.
struct Device {
  DeviceKind kind;
  int index = 0;
};

// Throws ERR_NATIVE where the kind is unknown.
Device deviceOf(const std::string& name);

}  // namespace shardspeed
