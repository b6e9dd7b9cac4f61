#pragma once

#include <cstdint>
#include <vector>

#include "model/spec.h"

namespace shardspeed {

// Units [first, first + count) of something that is divided among ranks.
struct Range {
  int64_t first = 0;
  int64_t count = 0;
};

// The part of a layer that one rank holds.
struct LayerShard {
  Range heads;
  Range kvHeads;
  Range neurons;        // of each expert, where there are several
  Range sharedNeurons;  // of the shared expert
};

// The part of a model that one rank of a tensor-parallel group holds (Shoeybi et al., Megatron-LM, 2019): query heads
// with the KV heads they read, feed-forward neurons, vocabulary rows of embedding and head. Norms and the biases behind
// row-parallel products (attention output, down) are on every rank; positions are on rank 0.
//
// Nothing has to divide evenly. Where there are as many KV heads as ranks or more, whole KV heads are dealt out, each
// with its query heads. Where there are fewer, the ranks are dealt out to the KV heads: a KV head is on several ranks
// then, each with some of its query heads. Neurons and vocabulary rows are cut between blocks of kGateBlock, if there
// are enough.
struct Shard {
  int rank = 0;
  int size = 1;
  Range vocab;
  std::vector<LayerShard> kinds;  // of each kind of layer
};

// Of a whole model: rank 0 of 1.
Shard wholeModel(const ModelSpec& spec);
// 1 <= size <= largestGroup(spec).
Shard shardOf(const ModelSpec& spec, int rank, int size);
// Ranks that each get something of everything.
int64_t largestGroup(const ModelSpec& spec);
// The units of a feed-forward part that are divided among ranks: of one expert.
int64_t neurons(const FeedForwardSpec& spec);
// The neurons of the shared expert; 0 where there is none.
int64_t sharedNeurons(const FeedForwardSpec& spec);

}  // namespace shardspeed
