#pragma once

#include <memory>

#include "backend.h"
#include "backend_kind.h"
#include "base/thread_pool.h"
#include "comm/group.h"

namespace shardspeed {

// Weights as they are stored, everything else in fp32, on the threads of the pool, which must outlive the backend, as
// must the group (null = one rank alone).
std::unique_ptr<Backend> makeCpuBackend(ThreadPool& pool, Group* group = nullptr);

// As DeviceKind has it.
std::optional<std::string> unsupportedCpuAttention(const AttentionCall& call, int ranks);

// The most floats that a rank gives to the others at once.
int64_t cpuSlotFloats(const GroupShapes& shapes);

DeviceKind cpuDeviceKind();

}  // namespace shardspeed
