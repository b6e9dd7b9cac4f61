#include "runtime/device.h"

#include <algorithm>
#include <cstdlib>
#include <map>

#include "base/error.h"
#include "cpu/cpu_backend.h"
#include "model/loader.h"
#include "runtime/executor.h"

namespace shardspeed {

namespace {

std::unique_ptr<Backend> makeCpu(int, const BackendOptions& options) {
  return makeCpuBackend(*options.pool, options.group);
}

MemoryEstimate estimateCpu(const ModelSpec& spec, const Shard& shard, const BackendOptions& options) {
  int64_t floats = 0;
  if (shard.rank == 0) floats += std::min(options.maxRows, Executor::kLogitRows) * spec.vocabSize;  // for the sampler
  for (const auto& shape : Executor::activationShapes(spec, shard, options.maxRows))
    floats += shape.capacity * shape.cols;
  if (spec.positions == PositionKind::kRotary) floats += options.maxTokens * spec.headDim;
  MemoryEstimate estimate;
  estimate.weightBytes = estimateWeightBytes(spec, shard, options.dtype);
  estimate.activationBytes = floats * static_cast<int64_t>(sizeof(float));
  if (shard.size > 1) {
    // Each rank's part of what they share.
    const GroupShapes shapes = Executor::groupShapes(spec, shard.size, options.maxRows);
    estimate.activationBytes += static_cast<int64_t>(sharedBytesOfCpuGroup(shard.size, shapes)) / shard.size;
  }
  ThreadPool pool(1);
  const AttentionShape attention{shard.heads.count, shard.kvHeads.count, spec.headDim};
  estimate.kvPageBytes = static_cast<int64_t>(makeCpuBackend(pool)->kvPageBytes(spec.layers, attention));
  return estimate;
}

std::map<std::string, DeviceKind>& kinds() {
  // Never destroyed: an engine's thread may still run when the process exits.
  static auto& known = *new std::map<std::string, DeviceKind>{{"cpu", {makeCpu, estimateCpu}}};
  return known;
}

}  // namespace

void addDeviceKind(const std::string& name, const DeviceKind& kind) {
  kinds()[name] = kind;
}

Device deviceOf(const std::string& name) {
  const size_t colon = name.find(':');
  const auto found = kinds().find(name.substr(0, colon));
  if (found == kinds().end()) throw Error("ERR_NATIVE", "this build has no device " + name);
  return {found->second, colon == std::string::npos ? 0 : std::atoi(name.c_str() + colon + 1)};
}

}  // namespace shardspeed
