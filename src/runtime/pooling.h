#pragma once

#include "runtime/sequence.h"

namespace shardspeed {

// Makes a row of the hidden states of a sequence for each of its `poolings`: rows are added in the order of their
// tokens, in as many steps as it takes.

// Whether the token at this position counts for one of them; where nothing is pooled, all do.
bool isPooled(const Sequence& sequence, int64_t position);
void addPooled(Sequence& sequence, int64_t position, const float* row, int64_t columns);
// Puts the result into sequence.hidden.
void finishPooling(Sequence& sequence);

}  // namespace shardspeed
