#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "backend.h"
#include "model/shard.h"
#include "model/spec.h"
#include "model/weights.h"
#include "runtime/layers/attention.h"
#include "runtime/layers/embedding.h"
#include "runtime/layers/feed_forward.h"
#include "runtime/layers/output.h"

namespace shardspeed {

// Computes steps: the one layer loop that serves every architecture, prefill, chunked prefill and decode alike; what a
// layer consists of is in runtime/layers/. Of a model that is divided among ranks it computes one rank's part: all
// ranks run the same steps, and meet in the sums and in the gathering of logits.
class Executor {
 public:
  using Outputs = WantedOutputs;

  // maxRows: of a step; maxTokens: of a sequence.
  Executor(const ModelSpec& spec, const Shard& shard, const ModelWeights& weights, Backend& backend, KvCache& cache,
           int64_t maxRows, int64_t maxTokens);
  Executor(const Executor&) = delete;  // parts refer to its context
  Executor& operator=(const Executor&) = delete;

  // False where `stop` was set meanwhile: nothing of the step counts then. Only rank 0 looks at the outputs. Of a step
  // that is left nothing but tokens are wanted, of one tile of logits; take() gives them.
  bool run(const Step& step, const Outputs& outputs, const std::atomic<bool>& stop);

  // The tokens behind the first of the steps that are left; rank 0 only.
  void take(SampledToken* sampled) { context_.backend.takeSampled(sampled); }
  // Rows of logits in a tile.
  int64_t tileRows() const { return output_.rows(); }

  // What the ranks of a group give each other. logitRows: Backend's
  static GroupShapes groupShapes(const ModelSpec& spec, int ranks, int64_t maxRows, int64_t logitRows);

 private:
  const Norm* normAhead(int64_t layer) const;
  void runLayer(const Step& step, int64_t index);

  const Shard shard_;
  std::unique_ptr<Activations> part_;  // (rows, hidden), where what parts compute is not added as it comes
  const PartContext context_;
  KvCache& cache_;
  std::unique_ptr<Activations> hidden_;  // (rows, hidden): the residual stream
  EmbeddingPart embedding_;
  AttentionPart attention_;
  FeedForwardPart feedForward_;
  OutputPart output_;
};

}  // namespace shardspeed
