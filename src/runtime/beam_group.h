#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "runtime/beam_search.h"
#include "runtime/sequence.h"

namespace shardspeed {

// The sequences of a beam search, and the requests that its texts answer.
struct BeamGroup {
  BeamGroup(const BeamParams& params, const Sequence& prompt, std::vector<int64_t> requests)
      : search(params, prompt.sampler.params().stopTokens, prompt.maxNewTokens), ids(std::move(requests)) {}

  BeamSearch search;
  std::vector<int64_t> ids;  // of the requests that the best texts are for, the best one first; -1 = cancelled
  std::vector<Sequence*> running;
  std::vector<BeamRow> rows;  // of those that are settled

  bool isWanted() const {
    return std::any_of(ids.begin(), ids.end(), [](int64_t id) { return id >= 0; });
  }
  bool isSettled() const {
    return std::all_of(running.begin(), running.end(), [](const Sequence* one) { return one->settled; });
  }
};

}  // namespace shardspeed
