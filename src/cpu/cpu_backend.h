#pragma once

#include <memory>

#include "backend.h"
#include "base/thread_pool.h"

namespace shardspeed {

// Weights as they are stored, everything else in fp32, on the threads of the pool, which must outlive the backend.
std::unique_ptr<Backend> makeCpuBackend(ThreadPool& pool);

}  // namespace shardspeed
