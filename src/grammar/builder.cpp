#include "grammar/builder.h"

#include <algorithm>
#include <limits>
#include <string>

#include "base/error.h"

namespace shardspeed::grammar {

static constexpr int32_t kMost = std::numeric_limits<int32_t>::max();
static constexpr int64_t kMostByteEdges = 8 * kMostStates;

[[noreturn]] static void refuseSize() {
  throw Error("ERR_INVALID_ARGUMENT", "the format is too large: its automaton would have more than " +
                                          std::to_string(kMostStates) + " states. Use smaller repeat counts");
}

void Builder::build() {
  while (place_ < nodes_.size()) {
    const int32_t start = addState();
    starts.push_back(start);
    states[static_cast<size_t>(node(start, 0))].final = true;
  }
  for (const int32_t rule : rulesCalled_)
    if (rule >= static_cast<int32_t>(starts.size())) throw Error("ERR_NATIVE", "a grammar calls a rule that it lacks");
  if (starts.empty()) throw Error("ERR_NATIVE", "a grammar has no rules");
}

void Builder::addBytes(int32_t from, uint8_t first, uint8_t last, int32_t to) {
  if (++byteEdges_ > kMostByteEdges) refuseSize();
  states[static_cast<size_t>(from)].bytes.push_back({first, last, to});
}

int32_t Builder::addState() {
  if (static_cast<int64_t>(states.size()) >= kMostStates) refuseSize();
  states.emplace_back();
  return static_cast<int32_t>(states.size()) - 1;
}

int32_t Builder::take() {
  if (place_ >= nodes_.size()) throw Error("ERR_NATIVE", "a grammar ends within a node");
  return nodes_[place_++];
}

int32_t Builder::take(int32_t least, int32_t most) {
  const int32_t value = take();
  if (value < least || value > most) throw Error("ERR_NATIVE", "a grammar has a number out of range");
  return value;
}

int32_t Builder::node(int32_t from, int depth) {
  if (depth > kDeepest) throw Error("ERR_INVALID_ARGUMENT", "the format is nested too deeply");
  const Op op = static_cast<Op>(take(0, static_cast<int32_t>(Op::kRule)));
  if (op == Op::kRepeat) return repeat(from, depth);
  if (op == Op::kClass) return characters(from);
  if (op == Op::kRule) {
    const int32_t rule = take(0, kMost);
    rulesCalled_.push_back(rule);
    const int32_t to = addState();
    states[static_cast<size_t>(from)].calls.push_back({rule, to});
    return to;
  }
  const int32_t count = take(0, kMost);
  if (op == Op::kBytes) {
    for (int32_t i = 0; i < count; ++i) {
      const auto byte = static_cast<uint8_t>(take(0, 255));
      const int32_t to = addState();
      addBytes(from, byte, byte, to);
      from = to;
    }
    return from;
  }
  if (op == Op::kSequence) {
    for (int32_t i = 0; i < count; ++i) from = node(from, depth + 1);
    return from;
  }
  const int32_t to = addState();
  for (int32_t i = 0; i < count; ++i) {
    const int32_t begin = addState();
    states[static_cast<size_t>(from)].empty.push_back(begin);
    states[static_cast<size_t>(node(begin, depth + 1))].empty.push_back(to);
  }
  return to;
}

int32_t Builder::repeat(int32_t from, int depth) {
  const int32_t least = take(0, kMost);
  const int32_t most = take(-1, kMost);
  if (most >= 0 && most < least) throw Error("ERR_NATIVE", "a grammar repeats less than its least");
  const size_t body = place_;
  const int32_t copies = most < 0 ? least + 1 : most;
  const int32_t end = addState();
  for (int32_t i = 0; i < copies; ++i) {
    place_ = body;
    // A state of its own, so that edges back to it leave what stands before the repeat alone.
    const int32_t begin = addState();
    states[static_cast<size_t>(from)].empty.push_back(begin);
    if (i >= least) states[static_cast<size_t>(begin)].empty.push_back(end);
    from = node(begin, depth + 1);
    if (most < 0 && i == least) {
      states[static_cast<size_t>(from)].empty.push_back(begin);
      return end;
    }
  }
  states[static_cast<size_t>(from)].empty.push_back(end);
  // The body is skipped where it is repeated 0 times.
  if (copies == 0) {
    const size_t count = states.size();
    static_cast<void>(node(addState(), depth + 1));
    states.resize(count);
  }
  return end;
}

static int encode(int32_t code, uint8_t* bytes) {
  if (code < 0x80) {
    bytes[0] = static_cast<uint8_t>(code);
    return 1;
  }
  const int count = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
  for (int i = count - 1; i > 0; --i) {
    bytes[i] = static_cast<uint8_t>(0x80 | (code & 0x3f));
    code >>= 6;
  }
  bytes[0] = static_cast<uint8_t>((0xf00 >> count) | code);
  return count;
}

int32_t Builder::characters(int32_t from) {
  const int32_t count = take(0, kMost);
  const int32_t to = addState();
  for (int32_t i = 0; i < count; ++i) {
    const int32_t low = take(0, 0x10ffff);
    const int32_t high = take(low, 0x10ffff);
    // Split where the number of bytes changes, and around surrogates, which have no UTF-8.
    static constexpr int32_t kParts[][2] = {
        {0, 0x7f}, {0x80, 0x7ff}, {0x800, 0xd7ff}, {0xe000, 0xffff}, {0x10000, 0x10ffff}};
    for (const auto& [partLow, partHigh] : kParts) {
      const int32_t first = std::max(low, partLow);
      const int32_t last = std::min(high, partHigh);
      if (first > last) continue;
      uint8_t firstBytes[4];
      uint8_t lastBytes[4];
      const int bytes = encode(first, firstBytes);
      encode(last, lastBytes);
      range(from, to, firstBytes, lastBytes, bytes);
    }
  }
  return to;
}

void Builder::range(int32_t from, int32_t to, const uint8_t* first, const uint8_t* last, int bytes) {
  if (bytes == 1) {
    addBytes(from, first[0], last[0], to);
    return;
  }
  static constexpr uint8_t kLow[3] = {0x80, 0x80, 0x80};
  static constexpr uint8_t kHigh[3] = {0xbf, 0xbf, 0xbf};
  const auto step = [&](uint8_t low, uint8_t high, const uint8_t* restFirst, const uint8_t* restLast) {
    const int32_t next = addState();
    addBytes(from, low, high, next);
    range(next, to, restFirst, restLast, bytes - 1);
  };
  const auto isEdge = [&](const uint8_t* rest, const uint8_t* edge) {
    return std::equal(rest, rest + bytes - 1, edge);
  };
  if (first[0] == last[0]) return step(first[0], first[0], first + 1, last + 1);
  uint8_t low = first[0];
  uint8_t high = last[0];
  if (!isEdge(first + 1, kLow)) step(low++, first[0], first + 1, kHigh);
  const bool endsEarly = !isEdge(last + 1, kHigh);
  if (endsEarly) --high;
  if (low <= high) step(low, high, kLow, kHigh);
  if (endsEarly) step(last[0], last[0], kLow, last + 1);
}

}  // namespace shardspeed::grammar
