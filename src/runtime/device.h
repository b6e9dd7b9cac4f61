#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "backend.h"
#include "base/thread_pool.h"
#include "comm/group.h"
#include "model/shard.h"
#include "model/spec.h"

namespace shardspeed {

// What a backend is made for.
struct BackendOptions {
  DType dtype = DType::kF32;
  ThreadPool* pool = nullptr;  // of the host
  int64_t maxRows = 0;         // of a step
  int64_t maxTokens = 0;       // of a sequence
  int64_t kvPages = 0;
  Group* group = nullptr;  // the ranks that share the model; null = one alone
};

struct MemoryEstimate {
  int64_t weightBytes = 0;
  int64_t activationBytes = 0;  // and all else that does not depend on the KV cache's size
  int64_t kvPageBytes = 0;      // of all layers
};

// A kind of device that engines can compute on. The CPU is always there; others are added by whoever starts the program
// (the binding, a test), since src/ knows none of them.
struct DeviceKind {
  std::unique_ptr<Backend> (*makeBackend)(int index, const BackendOptions& options);
  // Of the rank that holds the shard.
  MemoryEstimate (*estimate)(const ModelSpec& spec, const Shard& shard, const BackendOptions& options);
};

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
