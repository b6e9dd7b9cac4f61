#pragma once

#include <memory>

#include "runtime/device.h"

namespace shardspeed::cuda {

// The backend of one CUDA device (compute capability 8.0 and later). Weights, activations and KV cache are fp16 or
// bf16, sums and the residual stream fp32.
std::unique_ptr<Backend> makeCudaBackend(int index, const BackendOptions& options);

MemoryEstimate estimateCuda(const ModelSpec& spec, const Shard& shard, const BackendOptions& options);

// Makes "cuda:0" and so on known to the engine.
void addCudaDevices();

}  // namespace shardspeed::cuda
