#pragma once

#include <array>
#include <bitset>
#include <cstdint>
#include <vector>

namespace shardspeed::grammar {

// The form in which a grammar arrives: one tree a rule, in prefix order, rule 0 first. lib/format/nodes.ts writes it.
enum class Op : int32_t {
  kBytes,     // count, then bytes
  kClass,     // count, then the first and last code point of each range: one character of them, in UTF-8
  kSequence,  // count, then nodes
  kChoice,    // count, then nodes
  kRepeat,    // least, most (-1: any number), then a node
  kRule       // index
};

// Most states of an automaton; more are refused.
constexpr int64_t kMostStates = 300000;
// Deepest nesting of nodes in a rule.
constexpr int kDeepest = 256;

struct ByteEdge {
  uint8_t first, last;
  int32_t to;
};
struct CallEdge {
  int32_t rule;
  int32_t to;
};
struct State {
  std::vector<ByteEdge> bytes;
  std::vector<int32_t> empty;  // states reached without a byte
  std::vector<CallEdge> calls;
  bool final = false;  // the rule may end here
  // Nothing but the end of the rule is left, so that a call that comes back to here needs no return.
  bool onlyEnds = false;
};

// A recursive transition network: an automaton over bytes for each rule, whose edges may call other rules. Each state
// that it keeps can reach the end of its rule, so a text that has come somewhere can be completed.
class Grammar {
 public:
  // spelled: the bytes that tokens of one byte spell; the others are left out of the grammar, since a text with them
  // might not be completed. Throws Error("ERR_INVALID_ARGUMENT") for a grammar that is too large, recursive at its left
  // end, or matches nothing; Error("ERR_NATIVE") for nodes that are none.
  Grammar(const std::vector<int32_t>& nodes, const std::bitset<256>& spelled);

  const State& state(int32_t index) const { return states_[static_cast<size_t>(index)]; }
  int32_t start(int32_t rule) const { return starts_[static_cast<size_t>(rule)]; }
  // Bytes of a class take the same edges everywhere.
  int32_t byteClass(uint8_t byte) const { return classes_[byte]; }
  int32_t byteClasses() const { return classCount_; }
  int64_t states() const { return static_cast<int64_t>(states_.size()); }

 private:
  void dropUnspelled(const std::bitset<256>& spelled);
  void dropUnproductive();
  void findOnlyEnds();
  void refuseLeftRecursion() const;
  void findByteClasses();

  std::vector<State> states_;
  std::vector<int32_t> starts_;
  std::array<int32_t, 256> classes_{};
  int32_t classCount_ = 0;
};

}  // namespace shardspeed::grammar
