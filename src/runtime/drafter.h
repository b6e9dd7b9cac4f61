#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/thread_pool.h"
#include "runtime/engine_options.h"
#include "runtime/rank.h"
#include "runtime/sequence.h"

namespace shardspeed {

// A sequence that decodes, and the most tokens that its draft may have: at least one.
struct DraftWish {
  Sequence* sequence;
  int64_t most;
};

// Guesses what comes next in sequences. A guess changes no token, only how many steps these take.
class Drafter {
 public:
  virtual ~Drafter() = default;
  // Most tokens of a draft.
  virtual int64_t longest() const = 0;
  // Fills `draft` of the sequences, which is empty, with tokens that their constraints allow; it may stay empty.
  // Returns the nanoseconds that reading prompts took, which is once for each sequence.
  virtual int64_t makeDrafts(const std::vector<DraftWish>& wishes) = 0;
  // The sequence has ended.
  virtual void forget(int64_t /*id*/) {}
  virtual RankMemory memory() const { return {}; }
};

// Null where the options ask for no drafts. Loads the draft model, if there is one. All arguments outlive it; the pool
// is used while drafts are made.
std::unique_ptr<Drafter> makeDrafter(const EngineOptions& options, ThreadPool& pool, const std::atomic<bool>& stop);

}  // namespace shardspeed
