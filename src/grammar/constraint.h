#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
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

class Explorer;

// A grammar for a vocabulary; any number of sequences share it. Its masks are made when they are first asked for.
class CompiledGrammar {
 public:
  CompiledGrammar(const std::vector<int32_t>& nodes, std::shared_ptr<const TokenTrie> trie);

  const Grammar& grammar() const { return grammar_; }
  const TokenTrie& trie() const { return *trie_; }
  // Of states that share a stack, by their numbers. Thread-safe.
  std::shared_ptr<const LocalMask> localMask(const std::vector<Machine::Place>& places) const;
  // What sequences have found so far; another one where that has become too much to keep. Thread-safe. The grammar must
  // outlive it.
  std::shared_ptr<Explorer> explorer() const;

 private:
  static constexpr size_t kMostMasks = 256;

  std::shared_ptr<const TokenTrie> trie_;
  Grammar grammar_;
  mutable std::mutex mutex_;
  mutable std::map<std::vector<int32_t>, std::shared_ptr<const LocalMask>> masks_;
  mutable std::mutex explorerMutex_;
  mutable std::shared_ptr<Explorer> explorer_;
};

// The sets of places that texts of a grammar have come to, and their masks. Sequences share it, since they go the same
// ways. Thread-safe; what one finds for the first time, others wait for.
class Explorer {
 public:
  // Sets before another one is made.
  static constexpr size_t kMostSets = 8192;

  explicit Explorer(const CompiledGrammar& compiled) : compiled_(compiled), machine_(compiled.grammar()) {}

  int32_t begin();
  // Behind a token that stands for a text. kDead where it cannot come.
  int32_t after(int32_t set, std::string_view text);
  // The tokens that may come, beside those that end a text; the text may end here.
  struct Next {
    std::shared_ptr<const std::vector<int32_t>> mask;
    bool accepts = false;
  };
  Next next(int32_t set);
  size_t sets() const { return sets_; }

 private:
  static constexpr size_t kMostMasks = 256;

  std::vector<int32_t> makeMask(int32_t set);

  const CompiledGrammar& compiled_;
  std::mutex mutex_;
  Machine machine_;
  std::atomic<size_t> sets_ = 0;
  std::unordered_map<int32_t, std::shared_ptr<const std::vector<int32_t>>> masks_;
};

// Keeps the text of one sequence within a grammar. A token that ends a text is allowed only where the text may end, and
// alone where nothing else may come.
class GrammarConstraint final : public TokenConstraint {
 public:
  // endTokens: of the vocabulary, and none that stands for a text of its own.
  GrammarConstraint(std::shared_ptr<const CompiledGrammar> compiled, std::vector<int32_t> endTokens);

  bool fill(int32_t* mask) override;
  void accept(int32_t token) override;
  void rollback(int64_t tokens) override;
  std::unique_ptr<TokenConstraint> clone() const override;

 private:
  // The text has ended.
  static constexpr int32_t kEnded = -2;

  int32_t after(int32_t set, int32_t token);
  void startAnew();

  std::shared_ptr<const CompiledGrammar> compiled_;
  std::shared_ptr<Explorer> explorer_;
  std::vector<int32_t> endTokens_;
  size_t mostSets_ = Explorer::kMostSets;
  std::vector<int32_t> tokens_;
  std::vector<int32_t> sets_;  // (tokens + 1): before each token, and behind the last
};

}  // namespace shardspeed::grammar
