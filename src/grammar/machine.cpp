#include "grammar/machine.h"

#include <algorithm>
#include <unordered_set>
#include <utility>

#include "base/error.h"

namespace shardspeed::grammar {

static uint64_t pack(int32_t high, int32_t low) {
  return (static_cast<uint64_t>(static_cast<uint32_t>(high)) << 32) | static_cast<uint32_t>(low);
}

Machine::Machine(const Grammar& grammar)
    : grammar_(&grammar), classes_(static_cast<size_t>(grammar.byteClasses())), stacks_{{-1, -1}, {-1, -1}} {}

int32_t Machine::begin() {
  return close({{grammar_->start(0), kBottom}});
}

int32_t Machine::beginBelow(std::vector<Place> places) {
  for (Place& place : places) place.stack = kBelow;
  return number(std::move(places), false, false);
}

int32_t Machine::push(int32_t returnTo, int32_t below) {
  const auto [found, isNew] = stackNumbers_.try_emplace(pack(returnTo, below), static_cast<int32_t>(stacks_.size()));
  if (isNew) stacks_.push_back({returnTo, below});
  return found->second;
}

void Machine::work(int64_t states) {
  work_ += states;
  if (work_ > kMostWork) {
    throw Error("ERR_INVALID_ARGUMENT",
                "the format takes too much work: it is too large or too ambiguous for this vocabulary");
  }
}

int32_t Machine::makeStep(int32_t set, uint8_t byte) {
  std::vector<Place> open;
  work(static_cast<int64_t>(places(set).size()));
  for (const Place& place : places(set))
    for (const ByteEdge& edge : grammar_->state(place.state).bytes)
      if (edge.first <= byte && byte <= edge.last) open.push_back({edge.to, place.stack});
  const int32_t to = open.empty() ? kDead : close(std::move(open));
  next_[static_cast<size_t>(set) * classes_ + static_cast<size_t>(grammar_->byteClass(byte))] = to;
  return to;
}

// Follows everything that takes no byte. Kept are the states from which a byte leads on.
int32_t Machine::close(std::vector<Place> open) {
  // A new set takes memory too.
  work(static_cast<int64_t>(classes_) / 4);
  std::unordered_set<uint64_t> seen;
  std::vector<Place> kept;
  bool accepts = false;
  bool escapes = false;
  const auto visit = [&](int32_t state, int32_t stack) {
    if (seen.insert(pack(state, stack)).second) open.push_back({state, stack});
  };
  for (const Place& place : std::exchange(open, {})) visit(place.state, place.stack);
  while (!open.empty()) {
    const Place place = open.back();
    open.pop_back();
    const State& state = grammar_->state(place.state);
    work(1);
    if (!state.bytes.empty()) kept.push_back(place);
    for (const int32_t to : state.empty) visit(to, place.stack);
    for (const CallEdge& call : state.calls) {
      // What would return only to return again needs no frame, so that lists by recursion do not grow the stack.
      const bool isTail = grammar_->state(call.to).onlyEnds;
      visit(grammar_->start(call.rule), isTail ? place.stack : push(call.to, place.stack));
    }
    if (state.final) {
      if (place.stack == kBottom)
        accepts = true;
      else if (place.stack == kBelow)
        escapes = true;
      else
        visit(stacks_[static_cast<size_t>(place.stack)].returnTo, stacks_[static_cast<size_t>(place.stack)].below);
    }
    if (kept.size() > kMostPlaces)
      throw Error("ERR_INVALID_ARGUMENT",
                  "the format is too ambiguous: a text may be at too many places of it at once");
  }
  return number(std::move(kept), accepts, escapes);
}

int32_t Machine::number(std::vector<Place> places, bool accepts, bool escapes) {
  std::sort(places.begin(), places.end(),
            [](const Place& a, const Place& b) { return pack(a.state, a.stack) < pack(b.state, b.stack); });
  size_t hash = (accepts ? 1 : 0) + (escapes ? 2 : 0);
  for (const Place& place : places) hash = (hash ^ pack(place.state, place.stack)) * 0x9e3779b97f4a7c15u;
  std::vector<int32_t>& same = setNumbers_[hash];
  for (const int32_t set : same) {
    const Set& known = sets_[static_cast<size_t>(set)];
    if (known.accepts == accepts && known.escapes == escapes && *known.places == places) return set;
  }
  const auto set = static_cast<int32_t>(sets_.size());
  same.push_back(set);
  sets_.push_back({std::make_shared<const std::vector<Place>>(std::move(places)), accepts, escapes});
  next_.resize(next_.size() + classes_, kUnknown);
  return set;
}

}  // namespace shardspeed::grammar
