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
  return makeCpuBackend(*options.pool);
}

MemoryEstimate estimateCpu(const ModelSpec& spec, const BackendOptions& options) {
  int64_t floats = std::min(options.maxRows, Executor::kLogitRows) * spec.vocabSize;  // logits for the sampler
  for (const auto& shape : Executor::activationShapes(spec, options.maxRows)) floats += shape.capacity * shape.cols;
  if (spec.positions == PositionKind::kRotary) floats += options.maxTokens * spec.headDim;
  ThreadPool pool(1);
  const auto backend = makeCpuBackend(pool);
  return {estimateWeightBytes(spec, options.dtype), floats * static_cast<int64_t>(sizeof(float)),
          static_cast<int64_t>(backend->kvPageBytes(spec.layers, {spec.heads, spec.kvHeads, spec.headDim}))};
}

std::map<std::string, DeviceKind>& kinds() {
  static std::map<std::string, DeviceKind> known = {{"cpu", {makeCpu, estimateCpu}}};
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
