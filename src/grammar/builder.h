#pragma once

#include <cstdint>
#include <vector>

#include "grammar/grammar.h"

namespace shardspeed::grammar {

// Makes the states of rules from their nodes (Thompson's construction). Repeats are copied.
class Builder {
 public:
  explicit Builder(const std::vector<int32_t>& nodes) : nodes_(nodes) {}

  // Reads all rules.
  void build();
  std::vector<State> states;
  std::vector<int32_t> starts;

 private:
  int32_t addState();
  void addBytes(int32_t from, uint8_t first, uint8_t last, int32_t to);
  int32_t take();
  int32_t take(int32_t least, int32_t most);
  // Adds the node at place_ behind `from`; returns the state behind it.
  int32_t node(int32_t from, int depth);
  int32_t repeat(int32_t from, int depth);
  int32_t characters(int32_t from);
  // Paths for the code points of a range whose UTF-8 has so many bytes.
  void range(int32_t from, int32_t to, const uint8_t* first, const uint8_t* last, int bytes);

  const std::vector<int32_t>& nodes_;
  size_t place_ = 0;
  int64_t byteEdges_ = 0;
  std::vector<int32_t> rulesCalled_;
};

}  // namespace shardspeed::grammar
