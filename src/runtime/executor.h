#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "backend.h"
#include "model/spec.h"
#include "model/weights.h"
#include "runtime/sampler.h"

namespace shardspeed {

// Computes steps: the one layer loop that serves every architecture, prefill, chunked prefill and decode alike.
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
    std::vector<const Sampler*> samplers;
    SampledToken* sampled = nullptr;
    LogitSink sink;
  };

  // maxRows: of a step; maxTokens: of a sequence.
  Executor(const ModelSpec& spec, const ModelWeights& weights, Backend& backend, KvCache& cache, int64_t maxRows,
           int64_t maxTokens);

  // False where `stop` was set meanwhile: nothing of the step counts then.
  bool run(const Step& step, const Outputs& outputs, const std::atomic<bool>& stop);

  struct ActivationShape {
    int64_t capacity;
    int64_t cols;
    Width width;
  };
  // What the constructor asks the backend for, the hidden rows first.
  static std::vector<ActivationShape> activationShapes(const ModelSpec& spec, int64_t maxRows);

 private:
  void embed(const Step& step);
  void runLayer(const Step& step, int64_t index);
  void computeLogits(const Step& step, int64_t first);
  void deliverLogits(int64_t first, int64_t count, const Outputs& outputs);

  const ModelSpec& spec_;
  const ModelWeights& weights_;
  Backend& backend_;
  KvCache& cache_;
  AttentionShape shape_;
  std::unique_ptr<Activations> hidden_;     // (rows, hidden): the residual stream
  std::unique_ptr<Activations> qkv_;        // (rows, (heads + 2 kvHeads) headDim)
  std::unique_ptr<Activations> attention_;  // (rows, heads headDim)
  std::unique_ptr<Activations> ffn_;        // (rows, ffn)
  std::unique_ptr<Activations> gathered_;   // (kLogitRows, hidden)
  std::unique_ptr<Activations> logits_;     // (kLogitRows, vocab)
  std::unique_ptr<Activations> embedded_;   // (rows, embedding), where embedding != hidden
  std::unique_ptr<Activations> projected_;  // (kLogitRows, embedding), likewise
  int64_t logitRows_;                       // rows of the three above
  std::vector<float> hostLogits_;           // (kLogitRows, vocab)
};

}  // namespace shardspeed
