#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "base/dtype.h"
#include "model/spec.h"

namespace shardspeed {

class Backend;
struct AttentionCall;
class Group;
class MemoryCounter;
class ThreadPool;

// What a backend is made for.
struct BackendOptions {
  DType dtype = DType::kF32;
  ThreadPool* pool = nullptr;  // of the host
  int64_t maxRows = 0;         // of a step
  int64_t kvPages = 0;
  Group* group = nullptr;  // the ranks that share the model; null = one alone
  int threads = 1;         // of the pool
  // In which parts of a product travel between ranks that add them up: fp32, or dtype where that is less. Not of CPUs.
  DType communicationDtype = DType::kF32;
};

// A kind of device that engines can compute on. The CPU is always there; others are added by whoever starts the program
// (the binding, a test), since src/ knows none of them: runtime/device.h.
struct DeviceKind {
  std::unique_ptr<Backend> (*makeBackend)(int index, const BackendOptions& options);
  // Counts what makeBackend's backend would take on one rank. Neither pool nor group of the options is looked at.
  std::unique_ptr<MemoryCounter> (*makeCounter)(int rank, const BackendOptions& options);
  // As Backend::unsupportedAttention, of a backend that would be one of so many ranks.
  std::optional<std::string> (*unsupportedAttention)(const AttentionCall& call, int ranks);
};

}  // namespace shardspeed
