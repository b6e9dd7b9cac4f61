#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "token_constraint.h"

namespace shardspeed {

inline int64_t maskWords(int64_t vocab) {
  return (vocab + 31) / 32;
}

inline bool allows(const int32_t* mask, int64_t token) {
  return (static_cast<uint32_t>(mask[token / 32]) >> (token % 32) & 1) != 0;
}

inline void allow(int32_t* mask, int64_t token) {
  mask[token / 32] = static_cast<int32_t>(static_cast<uint32_t>(mask[token / 32]) | 1u << (token % 32));
}

inline void forbid(int32_t* mask, int64_t token) {
  mask[token / 32] = static_cast<int32_t>(static_cast<uint32_t>(mask[token / 32]) & ~(1u << (token % 32)));
}

// All constraints of one sequence: a token may come next where each of them allows it. A copy is in the same state, and
// goes its own way from there.
class TokenConstraints {
 public:
  TokenConstraints() = default;
  TokenConstraints(const TokenConstraints& other) {
    for (const auto& one : other.all_) all_.push_back(one->clone());
  }
  TokenConstraints(TokenConstraints&&) = default;
  TokenConstraints& operator=(TokenConstraints other) {
    all_ = std::move(other.all_);
    return *this;
  }
  ~TokenConstraints() = default;

  bool empty() const { return all_.empty(); }
  void add(std::unique_ptr<TokenConstraint> constraint) { all_.push_back(std::move(constraint)); }
  void accept(int32_t token) {
    for (const auto& one : all_) one->accept(token);
  }
  // As TokenConstraint::fill.
  bool fill(int32_t* mask, int64_t vocab) const {
    bool filled = false;
    std::vector<int32_t> other;
    for (const auto& one : all_) {
      if (!filled) {
        filled = one->fill(mask);
        continue;
      }
      other.resize(static_cast<size_t>(maskWords(vocab)));
      if (!one->fill(other.data())) continue;
      for (size_t i = 0; i < other.size(); ++i) mask[i] &= other[i];
    }
    return filled;
  }

 private:
  std::vector<std::unique_ptr<TokenConstraint>> all_;
};

}  // namespace shardspeed
