#include "runtime/rank.h"

#include <cstring>

#include "model/loader.h"
#include "runtime/device.h"
#include "runtime/step_message.h"

namespace shardspeed {

namespace {

Group::Bytes toBytes(const RankMemory& memory) {
  Group::Bytes bytes(sizeof memory);
  std::memcpy(bytes.data(), &memory, sizeof memory);
  return bytes;
}

}  // namespace

Rank::Rank(const EngineOptions& options, int index, Group* group, const std::atomic<bool>& stop, ThreadPool* pool)
    : options_(options),
      index_(index),
      group_(group),
      stop_(stop),
      shard_(shardOf(options.spec, options.firstRank + index, options.tpSize)),
      pool_(pool ? *pool : ownPool_.emplace(options.threads, group ? group->size() : 1)) {
  const Device device = deviceOf(options.devices[static_cast<size_t>(index)]);
  backend_ = device.kind.makeBackend(device.index, {options.dtype, &pool_, options.maxBatchTokens, options.kvCachePages,
                                                    group, options.threads, options.communicationDtype});
}

void Rank::load(LoadCounts& counts, const std::function<void()>& onProgress, const RankMemory& beside) {
  LoadOptions loading;
  loading.shard = shard_;
  loading.dtype = options_.dtype;
  loading.plan = options_.plan ? &*options_.plan : nullptr;
  loading.stop = &stop_;
  loading.overflows = &counts.overflows;
  if (group_) loading.check = [this] { group_->check(); };
  loading.onPlanned = [&](int64_t totalBytes) {
    counts.totalBytes += totalBytes;
    if (group_) group_->exchange({});  // from here on the total is complete
  };
  loading.onLoaded = [&](int64_t bytes, int worker) {
    counts.loadedBytes += bytes;
    if (worker == 0 && onProgress) onProgress();
  };
  weights_ = loadModel(options_.spec, loading, *backend_, pool_);
  parts_ = makeRankParts(options_.spec, shard_, weights_, *backend_, sizesOf(options_));
  const RankMemory own{beside.weightBytes + static_cast<int64_t>(weights_.bytes()),
                       beside.kvCacheBytes + static_cast<int64_t>(parts_.cache->bytes()),
                       beside.activationBytes + estimateMemory(options_, index_).activationBytes};
  memory_ = {own};
  if (!group_) return;
  const std::vector<Group::Bytes> all = group_->exchange(toBytes(own));
  memory_.resize(all.size());
  for (size_t i = 0; i < all.size(); ++i) std::memcpy(&memory_[i], all[i].data(), sizeof(RankMemory));
}

bool Rank::run(const Step& step, const Executor::Outputs& outputs) {
  if (group_) group_->send(encodeStep(step));
  if (step.left) ++left_;
  return parts_.executor->run(step, outputs, stop_);
}

bool Rank::canLeave(const std::vector<const SamplingState*>& samplers) const {
  const auto count = static_cast<int64_t>(samplers.size());
  return count <= parts_.executor->tileRows() && backend_->canLeave(samplers.data(), count);
}

// The others must notice a failure of their device while this one waits for them: an empty step has them wait, too.
void Rank::take(SampledToken* sampled) {
  if (group_ && left_ == 1) group_->send(encodeStep({}));
  --left_;
  parts_.executor->take(sampled);
}

void Rank::follow() {
  ReceivedStep received;
  const Executor::Outputs none;
  for (;;) {
    decodeStep(group_->receive(), received);
    if (received.step.rows == 0)
      backend_->catchUp();
    else if (!parts_.executor->run(received.step, none, stop_))
      return;
  }
}

}  // namespace shardspeed
