#pragma once

#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "grammar/grammar.h"

namespace shardspeed::grammar {

// Where a text may be in its grammar: all the states that it may be in, each with the calls that it returns to. These
// sets are numbered as they are found, and so are the steps between them: a deterministic automaton that grows as it is
// used.
class Machine {
 public:
  static constexpr int32_t kDead = -1;
  // Most states of a set.
  static constexpr size_t kMostPlaces = 4096;
  // States to look at from one allowWork() to the next: about 0.2 seconds.
  static constexpr int64_t kMostWork = 2000000;

  struct Place {
    int32_t state;
    int32_t stack;
    bool operator==(const Place&) const = default;
  };

  explicit Machine(const Grammar& grammar);

  // All functions throw Error("ERR_INVALID_ARGUMENT") where a grammar takes too much work. This begins to count anew.
  void allowWork() { work_ = 0; }
  // The set at the beginning of a text.
  int32_t begin();
  // The set of these states where the calls below them are not known.
  int32_t beginBelow(std::vector<Place> places);
  // kDead where the byte cannot come.
  int32_t step(int32_t set, uint8_t byte) {
    const int32_t known = next_[static_cast<size_t>(set) * classes_ + static_cast<size_t>(grammar_->byteClass(byte))];
    return known == kUnknown ? makeStep(set, byte) : known;
  }
  // The text may end here.
  bool accepts(int32_t set) const { return sets_[static_cast<size_t>(set)].accepts; }
  // A call has returned to one that is not known: what comes next cannot be told from here.
  bool escapes(int32_t set) const { return sets_[static_cast<size_t>(set)].escapes; }
  const std::vector<Place>& places(int32_t set) const { return *sets_[static_cast<size_t>(set)].places; }
  size_t sets() const { return sets_.size(); }

 private:
  static constexpr int32_t kUnknown = -2;
  // Stacks: the text's own end, and calls that are not known.
  static constexpr int32_t kBottom = 0;
  static constexpr int32_t kBelow = 1;

  struct Frame {
    int32_t returnTo;
    int32_t below;
    bool operator==(const Frame&) const = default;
  };
  struct Set {
    std::shared_ptr<const std::vector<Place>> places;
    bool accepts;
    bool escapes;
  };

  int32_t makeStep(int32_t set, uint8_t byte);
  void work(int64_t states);
  int32_t push(int32_t returnTo, int32_t below);
  int32_t close(std::vector<Place> open);
  int32_t number(std::vector<Place> places, bool accepts, bool escapes);

  const Grammar* grammar_;
  size_t classes_;
  int64_t work_ = 0;
  std::vector<Frame> stacks_;
  std::unordered_map<uint64_t, int32_t> stackNumbers_;
  std::vector<Set> sets_;
  std::unordered_map<size_t, std::vector<int32_t>> setNumbers_;  // by hash
  std::vector<int32_t> next_;                                    // (sets, byte classes)
};

}  // namespace shardspeed::grammar
