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

// Where the results for step.wantedRows go.
struct WantedOutputs {
  // The first samplers.size() wanted rows are logits to choose the next tokens from. Where the backend chooses these,
  // they go to `sampled`; else the sink gets these rows too.
  std::vector<const SamplingState*> samplers;
  SampledToken* sampled = nullptr;
  RowSink sink{};        // of logits, or of other outputs of the head
  RowSink hiddenSink{};  // of hidden states; rows are counted from the first of which they are wanted
  // The scored.size() rows behind those are logits ahead of tokens that are known. Likewise.
  std::vector<ScoreWish> scored{};
  TokenScore* scores = nullptr;
};

// Computes the head for the wanted rows, in tiles of some rows: logits, scores of classes, or the output of a pooler.
// Also delivers the hidden states that the head reads.
class OutputPart {
 public:
  explicit OutputPart(const PartContext& context);

  int64_t rows() const { return rows_; }  // of a tile: Backend::logitRows() at most, whatever is wanted
  // The tile that starts with the first-th wanted row.
  void compute(const Step& step, int64_t first, const Activations& hidden);
  // What compute() left; rank 0 only.
  void deliver(int64_t first, int64_t count, const WantedOutputs& outputs);
  // The same of a step that is left, of one tile.
  void leave(const WantedOutputs& outputs);
  // The hidden states of step.hiddenRows rows; rank 0 only.
  void deliverHidden(const Step& step, const Activations& hidden, const WantedOutputs& outputs);

 private:
  const Norm* finalNorm() const;
  // Whether the head takes the mean of all rows of a sequence, else the wanted row.
  bool averages() const;
  // Gives rows [begin, end) of the tile that starts with the first-th wanted row to the sink.
  void deliverRows(int64_t first, int64_t begin, int64_t end, const WantedOutputs& outputs);

  const PartContext& context_;
  const HeadSpec head_;
  int64_t rows_;
  std::unique_ptr<Activations> gathered_;     // (rows_, hidden)
  std::unique_ptr<Activations> logits_;       // (rows_, columns of the head), where they are delivered: rank 0
  std::unique_ptr<Activations> part_;         // (rows_, the rank's vocab), where there are several ranks
  std::unique_ptr<Activations> projected_;    // (rows_, embedding), where embedding != hidden
  std::unique_ptr<Activations> transformed_;  // (rows_, width of the head), where it has a transform
  std::vector<float> host_;                   // (rows_, columns)
};

}  // namespace shardspeed
