#pragma once

#include <memory>

#include "backend.h"
#include "base/thread_pool.h"
#include "comm/group.h"

namespace shardspeed {

// Weights as they are stored, everything else in fp32, on the threads of the pool, which must outlive the backend, as
// must the group (null = one rank alone).
std::unique_ptr<Backend> makeCpuBackend(ThreadPool& pool, Group* group = nullptr);

// Bytes that the ranks of a group share, all together.
size_t sharedBytesOfCpuGroup(int ranks, const GroupShapes& shapes);

}  // namespace shardspeed
