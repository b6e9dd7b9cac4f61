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
  machine.allowWork();
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

std::shared_ptr<Explorer> CompiledGrammar::explorer() const {
  const std::lock_guard lock(explorerMutex_);
  if (!explorer_ || explorer_->sets() > Explorer::kMostSets) explorer_ = std::make_shared<Explorer>(*this);
  return explorer_;
}

int32_t Explorer::begin() {
  const std::lock_guard lock(mutex_);
  machine_.allowWork();
  return machine_.begin();
}

int32_t Explorer::after(int32_t set, std::string_view text) {
  const std::lock_guard lock(mutex_);
  machine_.allowWork();
  for (const char byte : text) {
    set = machine_.step(set, static_cast<uint8_t>(byte));
    if (set == Machine::kDead) break;
  }
  sets_ = machine_.sets();
  return set;
}

Explorer::Next Explorer::next(int32_t set) {
  const std::lock_guard lock(mutex_);
  auto known = masks_.find(set);
  if (known == masks_.end()) {
    machine_.allowWork();
    auto mask = std::make_shared<const std::vector<int32_t>>(makeMask(set));
    sets_ = machine_.sets();
    if (masks_.size() >= kMostMasks) masks_.clear();
    known = masks_.emplace(set, std::move(mask)).first;
  }
  return {known->second, machine_.accepts(set)};
}

std::vector<int32_t> Explorer::makeMask(int32_t set) {
  const TokenTrie& trie = compiled_.trie();
  std::vector<int32_t> mask(static_cast<size_t>(trie.words()));
  const auto allowNode = [&](int32_t node, int32_t) {
    allow(trie, node, mask.data());
    return true;
  };
  const std::vector<Machine::Place>& places = machine_.places(set);
  if (places.empty()) return mask;
  const bool isLocal = std::all_of(places.begin(), places.end(),
                                   [&](const Machine::Place& place) { return place.stack == places[0].stack; });
  if (!isLocal) {
    walk(machine_, trie, 0, trie.count(), set, allowNode);
    return mask;
  }
  const std::shared_ptr<const LocalMask> local = compiled_.localMask(places);
  mask = local->words;
  for (const auto& [node, bytes] : local->escapes) {
    int32_t above = set;
    for (size_t i = 0; i + 1 < bytes.size() && above >= 0; ++i)
      above = machine_.step(above, static_cast<uint8_t>(bytes[i]));
    if (above >= 0) walk(machine_, trie, node, trie.nodes()[static_cast<size_t>(node)].end, above, allowNode);
  }
  return mask;
}

GrammarConstraint::GrammarConstraint(std::shared_ptr<const CompiledGrammar> compiled, std::vector<int32_t> endTokens)
    : compiled_(std::move(compiled)),
      explorer_(compiled_->explorer()),
      endTokens_(std::move(endTokens)),
      sets_{explorer_->begin()} {}

// Leaves all sets that were found so far and finds those of this text again.
void GrammarConstraint::startAnew() {
  explorer_ = compiled_->explorer();
  sets_ = {explorer_->begin()};
  for (const int32_t token : tokens_) sets_.push_back(after(sets_.back(), token));
  // Where the text alone needs many, that must stay rare.
  mostSets_ = std::max(Explorer::kMostSets, 2 * explorer_->sets());
}

int32_t GrammarConstraint::after(int32_t set, int32_t token) {
  if (set < 0) return set;
  if (std::find(endTokens_.begin(), endTokens_.end(), token) != endTokens_.end()) return kEnded;
  const std::string_view text = compiled_->trie().text(token);
  return text.empty() ? Machine::kDead : explorer_->after(set, text);
}

bool GrammarConstraint::fill(int32_t* mask) {
  if (explorer_->sets() > mostSets_) startAnew();
  const int32_t set = sets_.back();
  bool mayEnd = true;  // a token that was not allowed leaves nothing but the end
  if (set < 0) {
    std::fill_n(mask, static_cast<size_t>(compiled_->trie().words()), 0);
  } else {
    const Explorer::Next next = explorer_->next(set);
    std::copy(next.mask->begin(), next.mask->end(), mask);
    mayEnd = next.accepts;
  }
  if (!mayEnd) return true;
  for (const int32_t token : endTokens_) mask[token / 32] |= static_cast<int32_t>(1u << (token % 32));
  return true;
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
