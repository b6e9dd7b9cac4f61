#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "runtime/layers/part.h"
#include "sampling.h"

namespace shardspeed {

// Called with rows [first, first + count) of the wanted ones, (count, columns); the memory may be changed and is used
// again.
using RowSink = std::function<void(int64_t first, int64_t count, float* rows)>;

// What becomes of what is computed of step.wantedRows.
struct WantedOutputs {
  // Of the first samplers.size() wanted rows the next tokens are wanted. Where the backend chooses them they go to
  // `sampled`; else the sink gets these rows too.
  std::vector<const SamplingState*> samplers;
  SampledToken* sampled = nullptr;
  RowSink sink{};        // of logits, or of other outputs of the head
  RowSink hiddenSink{};  // of hidden states; rows are counted from the first of which they are wanted
};

// What the head makes of the wanted rows, in tiles of some rows: logits, scores of classes, or what a pooler makes. The
// hidden states that it reads may be had themselves.
class OutputPart {
 public:
  // Of a tile, at most: this bounds the buffer whatever the vocabulary.
  static constexpr int64_t kRows = 64;

  explicit OutputPart(const PartContext& context);

  int64_t rows() const { return rows_; }  // of a tile
  // The tile that starts with the first-th wanted row.
  void compute(const Step& step, int64_t first, const Activations& hidden);
  // What compute() left; rank 0 only.
  void deliver(int64_t first, int64_t count, const WantedOutputs& outputs);
  // The hidden states of step.hiddenRows rows; rank 0 only.
  void deliverHidden(const Step& step, const Activations& hidden, const WantedOutputs& outputs);

 private:
  const Norm* finalNorm() const;
  // Whether the head takes the mean of all rows of a sequence, else the wanted row.
  bool averages() const;

  const PartContext& context_;
  const HeadSpec head_;
  int64_t rows_;
  std::unique_ptr<Activations> gathered_;     // (kRows, hidden)
  std::unique_ptr<Activations> logits_;       // (kRows, columns of the head), where they are delivered: rank 0
  std::unique_ptr<Activations> part_;         // (kRows, the rank's vocab), where there are several ranks
  std::unique_ptr<Activations> projected_;    // (kRows, embedding), where embedding != hidden
  std::unique_ptr<Activations> transformed_;  // (kRows, width of the head), where it has a transform
  std::vector<float> host_;                   // (kRows, columns)
};

}  // namespace shardspeed
