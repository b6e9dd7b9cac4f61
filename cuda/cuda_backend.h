#pragma once

#include <memory>

#include "backend.h"
#include "backend_kind.h"

namespace shardspeed::cuda {

// The backend of one CUDA device (compute capability 8.0 and later). Weights, activations and KV cache are fp16 or
// bf16, sums and the residual stream fp32.
std::unique_ptr<Backend> makeCudaBackend(int index, const BackendOptions& options);

// As DeviceKind has it.
std::optional<std::string> unsupportedCudaAttention(const AttentionCall& call, int ranks);

// Rows of logits that are computed at once: the tokens of so many sequences are chosen with the head read once.
constexpr int64_t kLogitRows = 256;

DeviceKind cudaDeviceKind();

}  // namespace shardspeed::cuda
