#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

namespace shardspeed::bench {

// Reads `bytes` (a multiple of 16) and keeps nothing: what a kernel that only reads its weights could reach. sink: one
// word, written only if the data happens to be made for it.
void readMemory(const void* data, size_t bytes, uint32_t* sink, int multiprocessors, cudaStream_t stream);

}  // namespace shardspeed::bench
