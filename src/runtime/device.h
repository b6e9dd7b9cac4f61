#pragma once

#include <string>

#include "backend_kind.h"

namespace shardspeed {

// Call it before the first engine is made, from one thread at a time.
void addDeviceKind(const std::string& name, const DeviceKind& kind);

// A device's name is its kind, or its kind, ":" and an index.
struct Device {
  DeviceKind kind;
  int index = 0;
};

// Throws ERR_NATIVE if the kind is unknown.
Device deviceOf(const std::string& name);

}  // namespace shardspeed
