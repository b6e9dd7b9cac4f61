#include "runtime/rank.h"

#include <cstring>

#include "model/loader.h"
#include "runtime/step_message.h"

namespace shardspeed {

namespace {

BackendOptions backendOptions(const EngineOptions& options, ThreadPool* pool, Group* group) {
  BackendOptions result;
  result.dtype = options.dtype;
  result.pool = pool;
  result.maxRows = options.maxBatchTokens;
  result.maxTokens = options.maxSequenceTokens;
  result.kvPages = options.kvCachePages;
  result.group = group;
  return result;
}

MemoryEstimate estimateRank(const EngineOptions& options, int rank) {
  const Device device = deviceOf(options.devices[static_cast<size_t>(rank - options.firstRank())]);
  return device.kind.estimate(options.spec, shardOf(options.spec, rank, options.groupSize()),
                              backendOptions(options, nullptr, nullptr));
}

Group::Bytes toBytes(const RankMemory& memory) {
  Group::Bytes bytes(sizeof memory);
  std::memcpy(bytes.data(), &memory, sizeof memory);
  return bytes;
}

}  // namespace

std::vector<MemoryEstimate> estimateMemory(const EngineOptions& options) {
  std::vector<MemoryEstimate> estimates;
  for (size_t i = 0; i < options.devices.size(); ++i)
    estimates.push_back(estimateRank(options, options.firstRank() + static_cast<int>(i)));
  return estimates;
}

Rank::Rank(const EngineOptions& options, int index, Group* group, const std::atomic<bool>& stop)
    : options_(options),
      group_(group),
      stop_(stop),
      shard_(shardOf(options.spec, options.firstRank() + index, options.groupSize())),
      pool_(options.threads) {
  const Device device = deviceOf(options.devices[static_cast<size_t>(index)]);
  backend_ = device.kind.makeBackend(device.index, backendOptions(options, &pool_, group));
}

void Rank::load(LoadCounts& counts, const std::function<void()>& onProgress) {
  LoadOptions loading;
  loading.shard = shard_;
  loading.dtype = options_.dtype;
  loading.plan = options_.plan ? &*options_.plan : nullptr;
  loading.stop = &stop_;
  loading.group = group_;
  loading.onPlanned = [&](int64_t totalBytes) {
    counts.totalBytes += totalBytes;
    if (group_) group_->exchange({});  // from here on the total stands
  };
  loading.onLoaded = [&](int64_t bytes, int worker) {
    counts.loadedBytes += bytes;
    if (worker == 0 && onProgress) onProgress();
  };
  weights_ = loadModel(options_.spec, loading, *backend_, pool_);
  const AttentionShape shape{shard_.heads.count, shard_.kvHeads.count, options_.spec.headDim};
  cache_ = backend_->makeKvCache(options_.spec.layers, options_.kvCachePages, shape);
  executor_ = std::make_unique<Executor>(options_.spec, shard_, weights_, *backend_, *cache_, options_.maxBatchTokens,
                                         options_.maxSequenceTokens);
  const RankMemory own{static_cast<int64_t>(weights_.bytes()), static_cast<int64_t>(cache_->bytes()),
                       estimateRank(options_, shard_.rank).activationBytes};
  memory_ = {own};
  if (!group_) return;
  const std::vector<Group::Bytes> all = group_->exchange(toBytes(own));
  memory_.resize(all.size());
  for (size_t i = 0; i < all.size(); ++i) std::memcpy(&memory_[i], all[i].data(), sizeof(RankMemory));
}

bool Rank::run(const Step& step, const Executor::Outputs& outputs) {
  if (group_) group_->send(encodeStep(step));
  return executor_->run(step, outputs, stop_);
}

void Rank::follow() {
  ReceivedStep received;
  const Executor::Outputs none;
  do decodeStep(group_->receive(), received);
  while (executor_->run(received.step, none, stop_));
}

}  // namespace shardspeed
