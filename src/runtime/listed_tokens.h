#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "token_constraint.h"

namespace shardspeed {

// The tokens that a request lists as allowed, and never one that would complete a bad word. Tokens of the prompt count
// as the beginning of a word, as in transformers.
class ListedTokens : public TokenConstraint {
 public:
  // allowed: empty = every token. badWords: the tokens of each, of at least one; all ids are below vocab.
  ListedTokens(int64_t vocab, const std::vector<int32_t>& allowed, std::vector<std::vector<int32_t>> badWords,
               const std::vector<int32_t>& prompt);

  bool fill(int32_t* mask) override;
  void accept(int32_t token) override { history_.push_back(token); }
  void rollback(int64_t tokens) override;
  std::unique_ptr<TokenConstraint> clone() const override { return std::make_unique<ListedTokens>(*this); }

 private:
  struct Lists {
    bool restricts = false;                         // the mask has not all tokens
    std::vector<int32_t> mask;                      // allowed, without bad words of one token
    std::vector<std::vector<int32_t>> longerWords;  // bad words of more than one token
  };

  bool ends(const std::vector<int32_t>& word) const;

  std::shared_ptr<const Lists> lists_;  // of all clones
  std::vector<int32_t> history_;        // as much of the prompt as may begin a word, then the accepted tokens
};

}  // namespace shardspeed
