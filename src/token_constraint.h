#pragma once

#include <cstdint>
#include <memory>

namespace shardspeed {

// What tokens may come next in one sequence. Used by one thread at a time.
class TokenConstraint {
 public:
  virtual ~TokenConstraint() = default;
  // mask has ceil(vocab / 32) words; sets bit i % 32 of word i / 32 for each token that may come next. Returns false
  // where every token may (the mask is then unspecified).
  virtual bool fill(int32_t* mask) = 0;
  // A token that fill() allowed has been chosen.
  virtual void accept(int32_t token) = 0;
  // Takes the last accepted tokens back (speculation, preemption).
  virtual void rollback(int64_t tokens) = 0;
  // A second one in the same state (forks, beams).
  virtual std::unique_ptr<TokenConstraint> clone() const = 0;
};

}  // namespace shardspeed
