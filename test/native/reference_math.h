#pragma once

#include <cmath>
#include <vector>

#include "model/spec.h"
#include "reference_sums.h"

namespace shardspeed::test {

// Activations, norms, rotation and attention in fp64, by their definitions.

double activationOf(ActivationKind kind, double x, XieluNumbers xielu = {0.7f, 1.3f});

// x by its norm; weight and bias may be null.
std::vector<double> normOf(NormKind kind, double epsilon, const double* weight, const double* bias,
                           const std::vector<double>& x);

// Turns a head at a position of a sequence of so many tokens. Angles are rounded to fp32, as models were trained with.
void rotate(const RotarySpec& rotary, int64_t position, int64_t totalLength, double* head,
            RotaryLayout layout = RotaryLayout::kHalf);

// How scores differ from scale q k^T.
struct ScoreTerms {
  double softCap = 0;
  double slope = 0;          // times the distance of the key
  double firstDistance = 0;  // of the first key given: its position - the query's
  double sink = -INFINITY;
  std::vector<double> others;  // one a key, added at last; empty = none
};

// softmax(scale q k^T) v of one query over all keys given, which are neighbours.
std::vector<double> attentionOf(const double* query, const std::vector<const double*>& keys,
                                const std::vector<const double*>& values, size_t dim, double scale,
                                const ScoreTerms& terms = {});

}  // namespace shardspeed::test
