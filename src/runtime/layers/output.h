#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "runtime/layers/part.h"
#include "sampling.h"

namespace shardspeed {

// Called with rows [first, first + count) of the wanted logits, (count, vocab); the memory may be changed and is used
// again.
using LogitSink = std::function<void(int64_t first, int64_t count, float* logits)>;

// What becomes of the logits of step.wantedRows.
struct LogitOutputs {
  // Of the first samplers.size() wanted rows the next tokens are wanted. Where the backend chooses them they go to
  // `sampled`; else the sink gets these rows too.
  std::vector<const SamplingState*> samplers;
  SampledToken* sampled = nullptr;
  LogitSink sink;
};

// Logits of the wanted rows, in tiles of some rows.
class LogitsPart {
 public:
  // Of a tile, at most: this bounds the buffer whatever the vocabulary.
  static constexpr int64_t kRows = 64;

  explicit LogitsPart(const PartContext& context);

  int64_t rows() const { return rows_; }  // of a tile
  // The tile that starts with the first-th wanted row.
  void compute(const Step& step, int64_t first, const Activations& hidden);
  // What compute() left; rank 0 only.
  void deliver(int64_t first, int64_t count, const LogitOutputs& outputs);

 private:
  const PartContext& context_;
  int64_t rows_;
  std::unique_ptr<Activations> gathered_;   // (kRows, hidden)
  std::unique_ptr<Activations> logits_;     // (kRows, vocab), where tokens are sampled: rank 0
  std::unique_ptr<Activations> part_;       // (kRows, the rank's vocab), where there are several ranks
  std::unique_ptr<Activations> projected_;  // (kRows, embedding), where embedding != hidden
  std::vector<float> host_;                 // (kRows, vocab)
};

}  // namespace shardspeed
