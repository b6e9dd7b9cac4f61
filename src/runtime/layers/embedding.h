#pragma once

#include <memory>

#include "runtime/layers/part.h"

namespace shardspeed {

// Tokens to rows of the residual stream: the table's rows, a projection where they are narrower, learned positions,
// token types, and a norm behind them.
class EmbeddingPart {
 public:
  explicit EmbeddingPart(const PartContext& context);

  // next: the norm that the first layer begins with; null = none
  void run(const Step& step, const Norm* next, Activations& hidden);

 private:
  void embedTokens(const Step& step, Activations& rows);
  // Positions, token types, the sum over ranks and the norm.
  void finish(const Step& step, const Norm* next, Activations& rows);

  const PartContext& context_;
  std::unique_ptr<Activations> embedded_;  // (rows, embedding), where embedding != hidden
};

}  // namespace shardspeed
