#pragma once

#include "backend.h"
#include "base/thread_pool.h"
#include "cpu/tensors.h"

namespace shardspeed {

// Heads of latent attention, between its projections and attention: Backend::joinHeads() and narrowHeads().

void cpuJoinHeads(ThreadPool& pool, const LatentHeads& shape, int64_t rows, const CpuActivations& queries,
                  const CpuActivations& sharedKeys, const CpuActivations& keysValues, CpuActivations& qkv);
void cpuNarrowHeads(ThreadPool& pool, const LatentHeads& shape, int64_t rows, const CpuActivations& in,
                    CpuActivations& out);

}  // namespace shardspeed
