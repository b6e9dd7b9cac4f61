#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "grammar/grammar.h"
#include "grammar/machine.h"
#include "grammar/token_trie.h"
#include "token_constraint.h"

namespace shardspeed::grammar {

// What a state allows whatever it returns to: the tokens that stay within its rule, and the nodes of the trie where
// that is left, whose tokens depend on the calls below. Inside of a string it is nearly all of the vocabulary.
struct LocalMask {
  std::vector<int32_t> words;
  std::vector<std::pair<int32_t, std::string>> escapes;  // a node, and the bytes to it
};

// A grammar for a vocabulary; any number of sequences share it. Its masks are made when they are first asked for.
class CompiledGrammar {
 public:
  CompiledGrammar(const std::vector<int32_t>& nodes, std::shared_ptr<const TokenTrie> trie);

  const Grammar& grammar() const { return grammar_; }
  const TokenTrie& trie() const { return *trie_; }
  // Of states that share a stack, by their numbers. Thread-safe.
  std::shared_ptr<const LocalMask> localMask(const std::vector<Machine::Place>& places) const;

 private:
  static constexpr size_t kMostMasks = 256;

  std::shared_ptr<const TokenTrie> trie_;
  Grammar grammar_;
  mutable std::mutex mutex_;
  mutable std::map<std::vector<int32_t>, std::shared_ptr<const LocalMask>> masks_;
};

// Keeps the text of one sequence within a grammar. An end token is allowed only where the text may end, and alone where
// nothing else may come.
class GrammarConstraint final : public TokenConstraint {
 public:
  explicit GrammarConstraint(std::shared_ptr<const CompiledGrammar> compiled);

  bool fill(int32_t* mask) override;
  void accept(int32_t token) override;
  void rollback(int64_t tokens) override;
  std::unique_ptr<TokenConstraint> clone() const override;

 private:
  static constexpr size_t kMostMasks = 64;
  // Sets of the machine before it is made anew.
  static constexpr size_t kMostSets = 8192;
  // The text has ended.
  static constexpr int32_t kEnded = -2;

  int32_t after(int32_t set, int32_t token);
  void startAnew();
  void makeMask(int32_t set, int32_t* mask);

  std::shared_ptr<const CompiledGrammar> compiled_;
  Machine machine_;
  size_t mostSets_ = kMostSets;
  std::vector<int32_t> tokens_;
  std::vector<int32_t> sets_;  // (tokens + 1): before each token, and behind the last
  std::unordered_map<int32_t, std::vector<int32_t>> masks_;
};

}  // namespace shardspeed::grammar
