#include "grammar/constraint.h"

#include <algorithm>
#include <utility>

namespace shardspeed::grammar {

// Goes through the trie from node `first` to before `last`, the bytes above it having led to `set`, and calls
// found(node) for each node whose bytes may come. It returns whether to go on below the node.
template <typename Found>
static void walk(Machine& machine, const TokenTrie& trie, int32_t first, int32_t last, int32_t set, Found&& found) {
  const std::vector<TokenTrie::Node>& nodes = trie.nodes();
  if (first >= last) return;
  const int above = nodes[static_cast<size_t>(first)].depth - 1;
  std::vector<int32_t> way{set};  // the sets at each depth
  for (int32_t index = first; index < last;) {
    const TokenTrie::Node& node = nodes[static_cast<size_t>(index)];
    const auto depth = static_cast<size_t>(node.depth - above);
    const int32_t next = machine.step(way[depth - 1], node.byte);
    if (next == Machine::kDead || !found(index, next)) {
      index = node.end;
      continue;
    }
    way.resize(std::max(way.size(), depth + 1));
    way[depth] = next;
    ++index;
  }
}

static void allow(const TokenTrie& trie, int32_t node, int32_t* words) {
  const int32_t last = trie.nodes()[static_cast<size_t>(node) + 1].tokens;
  for (int32_t i = trie.nodes()[static_cast<size_t>(node)].tokens; i < last; ++i) {
    const auto token = static_cast<uint32_t>(trie.tokens()[static_cast<size_t>(i)]);
    words[token / 32] |= static_cast<int32_t>(1u << (token % 32));
  }
}

CompiledGrammar::CompiledGrammar(const std::vector<int32_t>& nodes, std::shared_ptr<const TokenTrie> trie)
    : trie_(std::move(trie)), grammar_(nodes, trie_->spelled()) {}

std::shared_ptr<const LocalMask> CompiledGrammar::localMask(const std::vector<Machine::Place>& places) const {
  std::vector<int32_t> key;
  for (const Machine::Place& place : places) key.push_back(place.state);
  const std::lock_guard lock(mutex_);
  if (const auto known = masks_.find(key); known != masks_.end()) return known->second;
  auto mask = std::make_shared<LocalMask>();
  mask->words.resize(static_cast<size_t>(trie_->words()));
  Machine machine(grammar_);
  std::string bytes;
  walk(machine, *trie_, 0, trie_->count(), machine.beginBelow(places), [&](int32_t node, int32_t set) {
    const TokenTrie::Node& found = trie_->nodes()[static_cast<size_t>(node)];
    bytes.resize(static_cast<size_t>(found.depth));
    bytes.back() = static_cast<char>(found.byte);
    if (machine.escapes(set)) {
      mask->escapes.push_back({node, bytes});
      return false;
    }
    allow(*trie_, node, mask->words.data());
    return true;
  });
  if (masks_.size() >= kMostMasks) masks_.clear();
  masks_.emplace(std::move(key), mask);
  return mask;
}

GrammarConstraint::GrammarConstraint(std::shared_ptr<const CompiledGrammar> compiled)
    : compiled_(std::move(compiled)), machine_(compiled_->grammar()), sets_{machine_.begin()} {}

// Forgets all sets that were found and finds those of this text again.
void GrammarConstraint::startAnew() {
  machine_ = Machine(compiled_->grammar());
  masks_.clear();
  sets_ = {machine_.begin()};
  for (const int32_t token : tokens_) sets_.push_back(after(sets_.back(), token));
  // Where the text alone needs many, making it anew must stay rare.
  mostSets_ = std::max(kMostSets, 2 * machine_.sets());
}

int32_t GrammarConstraint::after(int32_t set, int32_t token) {
  if (set < 0) return set;
  if (compiled_->trie().ends(token)) return kEnded;
  const std::string_view text = compiled_->trie().text(token);
  if (text.empty()) return Machine::kDead;
  for (const char byte : text) {
    set = machine_.step(set, static_cast<uint8_t>(byte));
    if (set == Machine::kDead) break;
  }
  return set;
}

bool GrammarConstraint::fill(int32_t* mask) {
  if (machine_.sets() > mostSets_) startAnew();
  const TokenTrie& trie = compiled_->trie();
  const int32_t set = sets_.back();
  const auto words = static_cast<size_t>(trie.words());
  if (set < 0) {
    std::fill_n(mask, words, 0);
  } else if (const auto known = masks_.find(set); known != masks_.end()) {
    std::copy_n(known->second.data(), words, mask);
  } else {
    makeMask(set, mask);
    if (masks_.size() >= kMostMasks) masks_.clear();
    masks_.emplace(set, std::vector<int32_t>(mask, mask + words));
  }
  // A token that was not allowed leaves nothing but the end.
  if (set >= 0 && !machine_.accepts(set)) return true;
  for (const int32_t token : trie.endTokens()) mask[token / 32] |= static_cast<int32_t>(1u << (token % 32));
  return true;
}

void GrammarConstraint::makeMask(int32_t set, int32_t* mask) {
  const TokenTrie& trie = compiled_->trie();
  const auto allowNode = [&](int32_t node, int32_t) {
    allow(trie, node, mask);
    return true;
  };
  const std::vector<Machine::Place>& places = machine_.places(set);
  const bool isLocal = !places.empty() && std::all_of(places.begin(), places.end(), [&](const Machine::Place& place) {
    return place.stack == places[0].stack;
  });
  if (!isLocal) {
    std::fill_n(mask, static_cast<size_t>(trie.words()), 0);
    if (!places.empty()) walk(machine_, trie, 0, trie.count(), set, allowNode);
    return;
  }
  const std::shared_ptr<const LocalMask> local = compiled_->localMask(places);
  std::copy(local->words.begin(), local->words.end(), mask);
  for (const auto& [node, bytes] : local->escapes) {
    int32_t above = set;
    for (size_t i = 0; i + 1 < bytes.size() && above >= 0; ++i)
      above = machine_.step(above, static_cast<uint8_t>(bytes[i]));
    if (above >= 0) walk(machine_, trie, node, trie.nodes()[static_cast<size_t>(node)].end, above, allowNode);
  }
}

void GrammarConstraint::accept(int32_t token) {
  tokens_.push_back(token);
  sets_.push_back(after(sets_.back(), token));
}

void GrammarConstraint::rollback(int64_t tokens) {
  const size_t kept = tokens_.size() - std::min(tokens_.size(), static_cast<size_t>(std::max<int64_t>(tokens, 0)));
  tokens_.resize(kept);
  sets_.resize(kept + 1);
}

std::unique_ptr<TokenConstraint> GrammarConstraint::clone() const {
  return std::make_unique<GrammarConstraint>(*this);
}

}  // namespace shardspeed::grammar
