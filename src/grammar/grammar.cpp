#include "grammar/grammar.h"

#include <unordered_set>
#include <utility>

#include "base/error.h"
#include "grammar/builder.h"

namespace shardspeed::grammar {

// States to look at in search of rules that call themselves: about a second.
static constexpr int64_t kMostWork = 20000000;

Grammar::Grammar(const std::vector<int32_t>& nodes, const std::bitset<256>& spelled) {
  Builder builder(nodes);
  builder.build();
  states_ = std::move(builder.states);
  starts_ = std::move(builder.starts);
  dropUnspelled(spelled);
  dropUnproductive();
  findOnlyEnds();
  refuseLeftRecursion();
  findByteClasses();
}

void Grammar::dropUnspelled(const std::bitset<256>& spelled) {
  if (spelled.all()) return;
  for (State& state : states_) {
    std::vector<ByteEdge> kept;
    for (const ByteEdge& edge : state.bytes) {
      for (int byte = edge.first; byte <= edge.last; ++byte) {
        if (!spelled[static_cast<size_t>(byte)]) continue;
        if (byte > edge.first && spelled[static_cast<size_t>(byte - 1)])
          kept.back().last = static_cast<uint8_t>(byte);
        else
          kept.push_back({static_cast<uint8_t>(byte), static_cast<uint8_t>(byte), edge.to});
      }
    }
    state.bytes = std::move(kept);
  }
}

// Marks the states that can reach the end of their rule, backwards from the ends, and drops the edges to others.
void Grammar::dropUnproductive() {
  const size_t count = states_.size();
  std::vector<std::vector<int32_t>> before(count);                              // by plain edges
  std::vector<std::vector<std::pair<int32_t, int32_t>>> calls(starts_.size());  // (from, to) of calls of a rule
  std::vector<std::vector<std::pair<int32_t, int32_t>>> returns(count);  // (from, rule) of calls that return here
  std::vector<int32_t> ruleOf(count, -1);
  for (size_t rule = 0; rule < starts_.size(); ++rule)
    ruleOf[static_cast<size_t>(starts_[rule])] = static_cast<int32_t>(rule);
  std::vector<bool> good(count);
  std::vector<int32_t> open;
  const auto mark = [&](int32_t state) {
    if (good[static_cast<size_t>(state)]) return;
    good[static_cast<size_t>(state)] = true;
    open.push_back(state);
  };
  for (size_t i = 0; i < count; ++i) {
    const auto from = static_cast<int32_t>(i);
    for (const ByteEdge& edge : states_[i].bytes) before[static_cast<size_t>(edge.to)].push_back(from);
    for (const int32_t to : states_[i].empty) before[static_cast<size_t>(to)].push_back(from);
    for (const CallEdge& call : states_[i].calls) {
      calls[static_cast<size_t>(call.rule)].push_back({from, call.to});
      returns[static_cast<size_t>(call.to)].push_back({from, call.rule});
    }
    if (states_[i].final) mark(from);
  }
  const auto productive = [&](int32_t rule) { return good[static_cast<size_t>(starts_[static_cast<size_t>(rule)])]; };
  while (!open.empty()) {
    const auto state = static_cast<size_t>(open.back());
    open.pop_back();
    for (const int32_t from : before[state]) mark(from);
    for (const auto& [from, rule] : returns[state])
      if (productive(rule)) mark(from);
    if (ruleOf[state] < 0) continue;
    for (const auto& [from, to] : calls[static_cast<size_t>(ruleOf[state])])
      if (good[static_cast<size_t>(to)]) mark(from);
  }
  if (!productive(0)) {
    throw Error("ERR_INVALID_ARGUMENT",
                "the format matches nothing that the vocabulary can spell: no value satisfies it");
  }
  for (State& state : states_) {
    std::erase_if(state.bytes, [&](const ByteEdge& edge) { return !good[static_cast<size_t>(edge.to)]; });
    std::erase_if(state.empty, [&](int32_t to) { return !good[static_cast<size_t>(to)]; });
    std::erase_if(state.calls,
                  [&](const CallEdge& call) { return !good[static_cast<size_t>(call.to)] || !productive(call.rule); });
  }
}

// Backwards from ends without edges: a state all of whose edges take no byte and lead to such states.
void Grammar::findOnlyEnds() {
  std::vector<std::vector<int32_t>> before(states_.size());
  std::vector<size_t> edgesLeft(states_.size());
  std::vector<int32_t> open;
  const auto mark = [&](int32_t index) {
    states_[static_cast<size_t>(index)].onlyEnds = true;
    open.push_back(index);
  };
  for (size_t i = 0; i < states_.size(); ++i) {
    const State& state = states_[i];
    if (!state.bytes.empty() || !state.calls.empty()) continue;
    edgesLeft[i] = state.empty.size();
    for (const int32_t to : state.empty) before[static_cast<size_t>(to)].push_back(static_cast<int32_t>(i));
    if (state.empty.empty() && state.final) mark(static_cast<int32_t>(i));
  }
  while (!open.empty()) {
    const auto state = static_cast<size_t>(open.back());
    open.pop_back();
    for (const int32_t from : before[state])
      if (--edgesLeft[static_cast<size_t>(from)] == 0) mark(from);
  }
}

// A rule that calls itself before any byte would call itself for ever.
void Grammar::refuseLeftRecursion() const {
  const size_t rules = starts_.size();
  std::vector<bool> nullable(rules);
  int64_t work = 0;
  // States that a rule is in before any byte; fills what it calls from there.
  const auto reach = [&](size_t rule, std::vector<int32_t>& called) {
    std::vector<int32_t> open{starts_[rule]};
    std::unordered_set<int32_t> visited{starts_[rule]};
    bool ends = false;
    const auto push = [&](int32_t state) {
      if (++work > kMostWork) throw Error("ERR_INVALID_ARGUMENT", "the format is too large to be compiled");
      if (visited.insert(state).second) open.push_back(state);
    };
    while (!open.empty()) {
      const State& state = states_[static_cast<size_t>(open.back())];
      open.pop_back();
      ends = ends || state.final;
      for (const int32_t to : state.empty) push(to);
      for (const CallEdge& call : state.calls) {
        called.push_back(call.rule);
        if (nullable[static_cast<size_t>(call.rule)]) push(call.to);
      }
    }
    return ends;
  };
  std::vector<std::vector<int32_t>> called(rules);
  for (bool changed = true; changed;) {
    changed = false;
    // Later rules first: they are called by earlier ones more often than the other way round.
    for (size_t rule = rules; rule-- > 0;) {
      called[rule].clear();
      const bool ends = reach(rule, called[rule]);
      if (ends != nullable[rule]) nullable[rule] = changed = true;
    }
  }
  // Depth first without recursion of this function: 1 = on the way, 2 = done.
  std::vector<int> mark(rules);
  for (size_t root = 0; root < rules; ++root) {
    std::vector<std::pair<size_t, size_t>> way;
    if (mark[root] == 0) way.push_back({root, 0});
    while (!way.empty()) {
      auto& [rule, next] = way.back();
      mark[rule] = 1;
      if (next == called[rule].size()) {
        mark[rule] = 2;
        way.pop_back();
        continue;
      }
      const auto to = static_cast<size_t>(called[rule][next++]);
      if (mark[to] == 1) throw Error("ERR_INVALID_ARGUMENT", "the format refers to itself without anything in between");
      if (mark[to] == 0) way.push_back({to, 0});
    }
  }
}

void Grammar::findByteClasses() {
  std::bitset<257> begins;
  begins[0] = true;
  for (const State& state : states_) {
    for (const ByteEdge& edge : state.bytes) {
      begins[edge.first] = true;
      begins[static_cast<size_t>(edge.last) + 1] = true;
    }
  }
  int32_t current = -1;
  for (size_t byte = 0; byte < 256; ++byte) {
    if (begins[byte]) ++current;
    classes_[byte] = current;
  }
  classCount_ = current + 1;
}

}  // namespace shardspeed::grammar
