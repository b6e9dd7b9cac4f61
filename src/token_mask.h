#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
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
// goes its own way from there. Where one of them throws, nothing may come from then on, and problem() says why: one
// sequence fails, and not the step.
class TokenConstraints {
 public:
  TokenConstraints() = default;
  TokenConstraints(const TokenConstraints& other) : problem_(other.problem_) {
    for (const auto& one : other.all_) all_.push_back(one->clone());
  }
  TokenConstraints(TokenConstraints&&) = default;
  TokenConstraints& operator=(TokenConstraints other) {
    all_ = std::move(other.all_);
    problem_ = std::move(other.problem_);
    return *this;
  }
  ~TokenConstraints() = default;

  bool empty() const { return all_.empty(); }
  void add(std::unique_ptr<TokenConstraint> constraint) { all_.push_back(std::move(constraint)); }
  const std::optional<Error>& problem() const { return problem_; }
  void accept(int32_t token) {
    heed([&] {
      for (const auto& one : all_) one->accept(token);
    });
  }
  // As TokenConstraint::fill.
  bool fill(int32_t* mask, int64_t vocab) const {
    bool filled = false;
    heed([&] { filled = fillAll(mask, vocab); });
    if (!problem_) return filled;
    std::fill_n(mask, maskWords(vocab), 0);
    return true;
  }

 private:
  bool fillAll(int32_t* mask, int64_t vocab) const {
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

  template <typename Body>
  void heed(Body&& body) const {
    if (problem_) return;
    try {
      body();
    } catch (const Error& error) {
      problem_ = error;
    } catch (const std::exception& error) {
      problem_ = Error("ERR_OUT_OF_MEMORY", std::string("the request's constraints on tokens: ") + error.what());
    }
  }

  std::vector<std::unique_ptr<TokenConstraint>> all_;
  mutable std::optional<Error> problem_;
};

}  // namespace shardspeed
