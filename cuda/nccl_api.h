#pragma once

#include <cuda_runtime.h>

#include <climits>
#include <cstddef>
#include <cstdint>

// The part of NCCL's C interface that we call, declared here so that neither its header nor the library is needed to
// build. test/native/cuda/nccl_header_check.cpp holds it against the real header wherever that is at hand. What the
// functions mean: NCCL's user guide, "API".

namespace shardspeed::cuda {

enum class NcclStatus : int32_t { kSuccess = 0, kInProgress = 7 };  // others are failures
enum class NcclType : int32_t { kF16 = 6, kF32 = 7, kBF16 = 9 };

struct NcclId {
  char bytes[128];
};

// As of 2.18; later ones have fields behind these, which a library of such a version then takes for not set.
constexpr int kNcclUnset = INT_MIN;
struct NcclConfig {
  size_t size = sizeof(NcclConfig);
  uint32_t magic = 0xcafebeef;
  uint32_t version = 21800;
  int32_t blocking = kNcclUnset;
  int32_t clusterSize = kNcclUnset;
  int32_t leastBlocks = kNcclUnset;
  int32_t mostBlocks = kNcclUnset;
  const char* network = nullptr;
  int32_t splitShare = kNcclUnset;
};

struct NcclComm;  // opaque

// The library's functions; a test supplies its own.
struct NcclApi {
  NcclStatus (*getVersion)(int32_t* version);
  NcclStatus (*getUniqueId)(NcclId* id);
  NcclStatus (*initRank)(NcclComm** comm, int32_t ranks, NcclId id, int32_t rank, NcclConfig* config);
  NcclStatus (*getAsyncError)(NcclComm* comm, NcclStatus* status);
  NcclStatus (*abort)(NcclComm* comm);
  const char* (*getErrorString)(NcclStatus status);
  const char* (*getLastError)(NcclComm* comm);
  NcclStatus (*groupStart)();
  NcclStatus (*groupEnd)();
  NcclStatus (*send)(const void* from, size_t count, NcclType type, int32_t to, NcclComm* comm, cudaStream_t stream);
  NcclStatus (*receive)(void* to, size_t count, NcclType type, int32_t from, NcclComm* comm, cudaStream_t stream);
  NcclStatus (*allGather)(const void* mine, void* all, size_t count, NcclType type, NcclComm* comm,
                          cudaStream_t stream);
};

}  // namespace shardspeed::cuda
