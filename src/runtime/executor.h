#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "backend.h"
#include "model/shard.h"
#include "model/spec.h"
#include "model/weights.h"
#include "sampling.h"

namespace shardspeed {

// Computes steps: the one layer loop that serves every architecture, prefill, chunked prefill and decode alike. Of a
// model that is divided among ranks it computes one rank's part: all ranks run the same steps, and meet in the sums and
// in the gathering of logits.
class Executor {
 public:
  // Logits come in tiles of at most so many rows, which bounds their buffer whatever the vocabulary.
  static constexpr int64_t kLogitRows = 64;

  // Called with rows [first, first + count) of the wanted logits, (count, vocab); the memory may be changed and is used
  // again.
  using LogitSink = std::function<void(int64_t first, int64_t count, float* logits)>;

  // What becomes of the logits of step.wantedRows.
  struct Outputs {
    // Of the first samplers.size() wanted rows the next tokens are wanted. Where the backend chooses them they go to
    // `sampled`; else the sink gets these rows too.
    std::vector<const SamplingState*> samplers;
    SampledToken* sampled = nullptr;
    LogitSink sink;
  };

  // maxRows: of a step; maxTokens: of a sequence.
  Executor(const ModelSpec& spec, const Shard& shard, const ModelWeights& weights, Backend& backend, KvCache& cache,
           int64_t maxRows, int64_t maxTokens);

  // False where `stop` was set meanwhile: nothing of the step counts then. Only rank 0 looks at the outputs.
  bool run(const Step& step, const Outputs& outputs, const std::atomic<bool>& stop);

  struct ActivationShape {
    int64_t capacity;
    int64_t cols;
    Width width;
    std::unique_ptr<Activations> Executor::*buffer;
  };
  // What the constructor asks the backend for, the hidden rows first.
  static std::vector<ActivationShape> activationShapes(const ModelSpec& spec, const Shard& shard, int64_t maxRows);

  // What the ranks of a group give each other.
  static GroupShapes groupShapes(const ModelSpec& spec, int ranks, int64_t maxRows);

 private:
  const Norm* normAhead(int64_t layer) const;
  void embed(const Step& step);
  void runLayer(const Step& step, int64_t index);
  void computeLogits(const Step& step, int64_t first);
  void deliverLogits(int64_t first, int64_t count, const Outputs& outputs);

  const ModelSpec& spec_;
  Shard shard_;
  const ModelWeights& weights_;
  Backend& backend_;
  KvCache& cache_;
  std::vector<AttentionCall> calls_;        // (layers)
  std::unique_ptr<Activations> hidden_;     // (rows, hidden): the residual stream
  std::unique_ptr<Activations> qkv_;        // (rows, (heads + 2 kvHeads) headDim)
  std::unique_ptr<Activations> attention_;  // (rows, heads headDim)
  std::unique_ptr<Activations> ffn_;        // (rows, ffn)
  std::unique_ptr<Activations> gathered_;   // (kLogitRows, hidden)
  std::unique_ptr<Activations> logits_;     // (kLogitRows, vocab), where tokens are sampled: rank 0
  std::unique_ptr<Activations> logitPart_;  // (kLogitRows, the rank's vocab), where there are several ranks
  std::unique_ptr<Activations> embedded_;   // (rows, embedding), where embedding != hidden
  std::unique_ptr<Activations> projected_;  // (kLogitRows, embedding), likewise
  int64_t logitRows_;                       // rows of those
  std::vector<float> hostLogits_;           // (kLogitRows, vocab)
};

}  // namespace shardspeed
