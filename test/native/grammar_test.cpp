#include <bitset>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "check.h"
#include "grammar/constraint.h"
#include "grammar/grammar.h"
#include "grammar/machine.h"
#include "random.h"
#include "test_threads.h"

namespace shardspeed::test {

using grammar::CompiledGrammar;
using grammar::GrammarConstraint;
using grammar::Op;
using grammar::TokenTrie;
using Nodes = std::vector<int32_t>;

static Nodes join(const std::vector<Nodes>& parts) {
  Nodes all;
  for (const Nodes& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}
static Nodes bytes(const std::string& text) {
  Nodes nodes{static_cast<int32_t>(Op::kBytes), static_cast<int32_t>(text.size())};
  for (const char byte : text) nodes.push_back(static_cast<uint8_t>(byte));
  return nodes;
}
static Nodes list(Op op, const std::vector<Nodes>& parts) {
  return join({{static_cast<int32_t>(op), static_cast<int32_t>(parts.size())}, join(parts)});
}
static Nodes sequence(const std::vector<Nodes>& parts) {
  return list(Op::kSequence, parts);
}
static Nodes choice(const std::vector<Nodes>& parts) {
  return list(Op::kChoice, parts);
}
static Nodes repeat(int32_t least, int32_t most, const Nodes& body) {
  return join({{static_cast<int32_t>(Op::kRepeat), least, most}, body});
}
static Nodes rule(int32_t index) {
  return {static_cast<int32_t>(Op::kRule), index};
}
static Nodes range(int32_t first, int32_t last) {
  return {static_cast<int32_t>(Op::kClass), 1, first, last};
}

static std::string utf8(int32_t code) {
  if (code < 0x80) return {static_cast<char>(code)};
  if (code < 0x800) return {static_cast<char>(0xc0 | (code >> 6)), static_cast<char>(0x80 | (code & 63))};
  if (code < 0x10000)
    return {static_cast<char>(0xe0 | (code >> 12)), static_cast<char>(0x80 | ((code >> 6) & 63)),
            static_cast<char>(0x80 | (code & 63))};
  return {static_cast<char>(0xf0 | (code >> 18)), static_cast<char>(0x80 | ((code >> 12) & 63)),
          static_cast<char>(0x80 | ((code >> 6) & 63)), static_cast<char>(0x80 | (code & 63))};
}

// What may become of a text, by trying all ways through the nodes. It shares nothing with the automaton.
class SlowMatcher {
 public:
  explicit SlowMatcher(const Nodes& nodes) : nodes_(nodes) {
    for (size_t place = 0; place < nodes.size(); place = skip(place)) rules_.push_back(place);
  }

  struct Outcome {
    bool viable = false;    // some text begins so
    bool complete = false;  // it is a text
  };
  Outcome match(const std::string& text) const {
    Outcome outcome;
    run(rules_[0], text, 0, outcome, [&](size_t place) {
      if (place == text.size()) outcome.viable = outcome.complete = true;
    });
    return outcome;
  }

 private:
  using Rest = std::function<void(size_t)>;

  size_t skip(size_t place) const {
    const Op op = static_cast<Op>(nodes_[place]);
    const auto count = static_cast<size_t>(nodes_[place + 1]);
    if (op == Op::kBytes) return place + 2 + count;
    if (op == Op::kClass) return place + 2 + 2 * count;
    if (op == Op::kRule) return place + 2;
    if (op == Op::kRepeat) return skip(place + 3);
    place += 2;
    for (size_t i = 0; i < count; ++i) place = skip(place);
    return place;
  }

  // Matches one of the spellings at a place of the text; a text that ends within one may go on.
  static void spell(const std::string& spelling, const std::string& text, size_t at, Outcome& outcome,
                    const Rest& rest) {
    const size_t left = text.size() - at;
    if (left < spelling.size()) {
      if (spelling.compare(0, left, text, at) == 0) outcome.viable = true;
    } else if (text.compare(at, spelling.size(), spelling) == 0) {
      rest(at + spelling.size());
    }
  }

  void run(size_t place, const std::string& text, size_t at, Outcome& outcome, const Rest& rest) const {
    const Op op = static_cast<Op>(nodes_[place]);
    const auto count = static_cast<size_t>(nodes_[place + 1]);
    if (op == Op::kBytes) {
      const std::string spelling(nodes_.begin() + static_cast<long>(place) + 2,
                                 nodes_.begin() + static_cast<long>(place + 2 + count));
      return spell(spelling, text, at, outcome, rest);
    }
    if (op == Op::kClass) {
      for (size_t i = 0; i < count; ++i)
        for (int32_t code = nodes_[place + 2 + 2 * i]; code <= nodes_[place + 3 + 2 * i]; ++code)
          if (code < 0xd800 || code > 0xdfff) spell(utf8(code), text, at, outcome, rest);
      return;
    }
    if (op == Op::kRule) return run(rules_[count], text, at, outcome, rest);
    if (op == Op::kRepeat) return again(place, 0, text, at, outcome, rest);
    if (op == Op::kChoice) {
      place += 2;
      for (size_t i = 0; i < count; ++i, place = skip(place)) run(place, text, at, outcome, rest);
      return;
    }
    inOrder(place + 2, count, text, at, outcome, rest);
  }

  void inOrder(size_t place, size_t count, const std::string& text, size_t at, Outcome& outcome,
               const Rest& rest) const {
    if (count == 0) return rest(at);
    run(place, text, at, outcome, [&](size_t next) { inOrder(skip(place), count - 1, text, next, outcome, rest); });
  }

  void again(size_t place, int32_t done, const std::string& text, size_t at, Outcome& outcome, const Rest& rest) const {
    if (done >= nodes_[place + 1]) rest(at);
    if (nodes_[place + 2] >= 0 && done >= nodes_[place + 2]) return;
    run(place + 3, text, at, outcome, [&](size_t next) {
      // A body that took nothing may be repeated for the least count only.
      if (next > at || done < nodes_[place + 1]) again(place, done + 1, text, next, outcome, rest);
    });
  }

  const Nodes& nodes_;
  std::vector<size_t> rules_;
};

static std::vector<int32_t> filled(TokenConstraint& constraint, const TokenTrie& trie) {
  // What was there before must not matter.
  std::vector<int32_t> mask(static_cast<size_t>(trie.words()), 0x5a5a5a5a);
  CHECK(constraint.fill(mask.data()));
  return mask;
}
static bool has(const std::vector<int32_t>& mask, int32_t token) {
  return (static_cast<uint32_t>(mask[static_cast<size_t>(token) / 32]) >> (token % 32) & 1) != 0;
}

static Nodes randomNodes(Random& random, int depth, int32_t rules) {
  const auto below = [&](int count) {
    std::vector<Nodes> parts;
    for (int i = 0; i < count; ++i) parts.push_back(randomNodes(random, depth - 1, rules));
    return parts;
  };
  switch (depth == 0 ? random.below(3) : random.below(8)) {
    case 0:
    case 1:
      return bytes(std::string(1 + random.below(2), static_cast<char>('a' + random.below(3))));
    case 2:
      return random.below(2) ? range('a', 'a' + static_cast<int32_t>(random.below(3))) : range(0xfe, 0x102);
    case 3:
      return repeat(static_cast<int32_t>(random.below(2)),
                    random.below(2) ? -1 : 1 + static_cast<int32_t>(random.below(3)), below(1)[0]);
    case 4:
      return choice(below(static_cast<int>(2 + random.below(2))));
    case 5:
      // Rules are called behind a byte, so that none calls itself at its left end.
      return sequence({bytes("("), rule(static_cast<int32_t>(random.below(rules))), bytes(")")});
    default:
      return sequence(below(static_cast<int>(1 + random.below(3))));
  }
}

static std::vector<std::string> smallVocabulary(Random& random) {
  std::vector<std::string> texts{""};  // token 0 ends a text
  for (const char byte : std::string("abc()\xc3\xc4\xbe\xbf\x80\x81\x82")) texts.push_back({byte});
  for (int i = 0; i < 40; ++i) {
    std::string text;
    for (int64_t length = 2 + random.below(3); length > 0; --length) {
      const std::string pieces[] = {"a", "b", "c", "(", ")", "\xc3\xbf", "\xc4"};
      text += pieces[random.below(7)];
    }
    texts.push_back(text);
  }
  texts.push_back(texts[3]);  // two tokens of the same text
  texts.push_back("");        // a special token
  return texts;
}

TEST(grammar, masks_equal_trying_every_token) {
  Random random(31);
  int64_t steps = 0;
  for (int round = 0; round < (kReduced ? 40 : 300); ++round) {
    const int32_t rules = 1 + static_cast<int32_t>(random.below(3));
    Nodes nodes;
    for (int32_t i = 0; i < rules; ++i) {
      // A way out of each rule without a call.
      const Nodes body = choice({randomNodes(random, 3, rules), bytes("c")});
      nodes.insert(nodes.end(), body.begin(), body.end());
    }
    const auto trie = std::make_shared<TokenTrie>(smallVocabulary(random), std::vector<int32_t>{0});
    const auto compiled = std::make_shared<CompiledGrammar>(nodes, trie);
    const SlowMatcher slow(nodes);
    GrammarConstraint constraint(compiled, trie->endTokens());
    std::string text;
    std::vector<int32_t> tokens;
    std::unique_ptr<TokenConstraint> copy;
    Note note("round", round);
    while (text.size() < 7) {
      const std::vector<int32_t> mask = filled(constraint, *trie);
      std::vector<int32_t> allowed;
      for (int32_t token = 0; token < trie->vocab(); ++token) {
        const std::string spelling(trie->text(token));
        const bool expected = token == 0         ? slow.match(text).complete
                              : spelling.empty() ? false
                                                 : slow.match(text + spelling).viable;
        CHECK_EQ(has(mask, token), expected);
        if (has(mask, token)) allowed.push_back(token);
      }
      REQUIRE(!allowed.empty());
      ++steps;
      if (random.below(4) == 0 && !tokens.empty()) {
        // Going back over some tokens and over them again changes nothing, nor does being a copy.
        copy = constraint.clone();
        const auto back = 1 + static_cast<int64_t>(random.below(static_cast<int64_t>(tokens.size())));
        copy->rollback(back);
        for (size_t i = tokens.size() - static_cast<size_t>(back); i < tokens.size(); ++i) copy->accept(tokens[i]);
        const std::vector<int32_t> again = filled(*copy, *trie);
        CHECK_BITS(again.data(), mask.data(), static_cast<int64_t>(mask.size()));
      }
      const int32_t chosen = allowed[static_cast<size_t>(random.below(static_cast<int64_t>(allowed.size())))];
      if (chosen == 0) break;
      constraint.accept(chosen);
      tokens.push_back(chosen);
      text += trie->text(chosen);
    }
  }
  CHECK(steps > 100);
}

TEST(grammar, the_end_is_allowed_where_the_text_may_end_and_alone_behind_it) {
  const auto trie =
      std::make_shared<TokenTrie>(std::vector<std::string>{"a", "b", "", "</s>", "ab"}, std::vector<int32_t>{3});
  const auto compiled = std::make_shared<CompiledGrammar>(sequence({bytes("a"), repeat(0, 1, bytes("b"))}), trie);
  GrammarConstraint constraint(compiled, trie->endTokens());
  CHECK_EQ(filled(constraint, *trie)[0], 0b10001);
  constraint.accept(0);
  CHECK_EQ(filled(constraint, *trie)[0], 0b01010);
  constraint.accept(1);
  CHECK_EQ(filled(constraint, *trie)[0], 0b01000);
  constraint.accept(3);
  CHECK_EQ(filled(constraint, *trie)[0], 0b01000);
  constraint.rollback(2);
  CHECK_EQ(filled(constraint, *trie)[0], 0b01010);
  // More than there are.
  constraint.rollback(100);
  CHECK_EQ(filled(constraint, *trie)[0], 0b10001);
}

TEST(grammar, bytes_that_no_token_spells_never_lead_to_a_dead_end) {
  // "x" begins with a token, but nothing spells the y behind it.
  const auto trie = std::make_shared<TokenTrie>(std::vector<std::string>{"", "x", "z", "yy"}, std::vector<int32_t>{0});
  const auto compiled = std::make_shared<CompiledGrammar>(choice({bytes("xy"), bytes("z")}), trie);
  GrammarConstraint constraint(compiled, trie->endTokens());
  CHECK_EQ(filled(constraint, *trie)[0], 0b0100);
  CHECK_THROWS("ERR_INVALID_ARGUMENT", "matches nothing", CompiledGrammar(bytes("xy"), trie));
}

TEST(grammar, all_code_points_are_spelled_as_utf8) {
  std::vector<std::string> texts{""};
  for (int byte = 1; byte < 256; ++byte) texts.push_back({static_cast<char>(byte)});
  const auto trie = std::make_shared<TokenTrie>(texts, std::vector<int32_t>{0});
  const auto compiled = std::make_shared<CompiledGrammar>(range(0x7e, 0x10fffd), trie);
  for (const int32_t code : {0x7e, 0x7f, 0x80, 0x7ff, 0x800, 0xfff, 0x1000, 0xd7ff, 0xe000, 0xffff, 0x10000, 0x3ffff,
                             0x40000, 0xfffff, 0x100000, 0x10fffd}) {
    GrammarConstraint constraint(compiled, trie->endTokens());
    for (const char byte : utf8(code)) {
      CHECK(has(filled(constraint, *trie), static_cast<uint8_t>(byte)));
      constraint.accept(static_cast<uint8_t>(byte));
    }
    CHECK_EQ(has(filled(constraint, *trie), 0), true);
  }
  for (const std::string& wrong :
       {std::string("\x7d"), std::string("\xc1"), std::string("\xe0\x9f"), std::string("\xed\xa0"),
        std::string("\xf0\x8f"), std::string("\xf4\x90"), std::string("\xf4\x8f\xbf\xbe")}) {
    GrammarConstraint constraint(compiled, trie->endTokens());
    for (size_t i = 0; i + 1 < wrong.size(); ++i) constraint.accept(static_cast<uint8_t>(wrong[i]));
    CHECK_EQ(has(filled(constraint, *trie), static_cast<uint8_t>(wrong.back())), false);
  }
}

TEST(grammar, hostile_grammars_are_refused_within_limits) {
  const auto trie = std::make_shared<TokenTrie>(std::vector<std::string>{"", "a", "[", "]"}, std::vector<int32_t>{0});
  CHECK_THROWS("ERR_INVALID_ARGUMENT", "too large",
               CompiledGrammar(repeat(0, 100000, repeat(0, 100000, bytes("a"))), trie));
  CHECK_THROWS("ERR_INVALID_ARGUMENT", "too large", CompiledGrammar(repeat(0, 2147483647, sequence({})), trie));
  CHECK_THROWS("ERR_INVALID_ARGUMENT", "refers to itself",
               CompiledGrammar(choice({sequence({repeat(0, 1, bytes("a")), rule(0)}), bytes("a")}), trie));
  CHECK_THROWS("ERR_INVALID_ARGUMENT", "matches nothing", CompiledGrammar(sequence({bytes("a"), rule(0)}), trie));
  Nodes deep;
  for (int i = 0; i < 100000; ++i) deep.insert(deep.end(), {static_cast<int32_t>(Op::kSequence), 1});
  CHECK_THROWS("ERR_INVALID_ARGUMENT", "too deeply", CompiledGrammar(deep, trie));
  for (const Nodes& wrong : {Nodes{}, Nodes{99}, Nodes{0, 5}, Nodes{0, 1, 300}, Nodes{1, 1, 9, 3}, Nodes{5, 7},
                             Nodes{4, 3, 2}, Nodes{-1}, Nodes{2, -1}})
    CHECK_THROWS("ERR_NATIVE", "grammar", CompiledGrammar(wrong, trie));
  // Two rules alike make twice as many places with each level.
  const Nodes arrays =
      choice({sequence({bytes("["), rule(0), bytes("]")}), sequence({bytes("["), rule(0), bytes("]a")}), bytes("a")});
  GrammarConstraint constraint(std::make_shared<CompiledGrammar>(arrays, trie), trie->endTokens());
  CHECK_THROWS("ERR_INVALID_ARGUMENT", "too ambiguous", for (int i = 0; i < 40; ++i) constraint.accept(2));
}

TEST(grammar, a_text_of_many_places_is_found_again_when_the_machine_is_made_anew) {
  // Each level of brackets is another set, more than a machine keeps.
  const Nodes arrays = choice({sequence({bytes("["), rule(0), bytes("]")}), bytes("a")});
  const auto trie = std::make_shared<TokenTrie>(std::vector<std::string>{"", "a", "[", "]"}, std::vector<int32_t>{0});
  GrammarConstraint constraint(std::make_shared<CompiledGrammar>(arrays, trie), trie->endTokens());
  const int depth = 5000;
  for (int i = 0; i < depth; ++i) constraint.accept(2);
  constraint.accept(1);
  for (int i = 0; i < depth; ++i) {
    CHECK_EQ(filled(constraint, *trie)[0], 0b1000);
    constraint.accept(3);
  }
  CHECK_EQ(filled(constraint, *trie)[0], 0b0001);
}

TEST(grammar, a_list_by_recursion_is_at_the_same_place_after_each_of_its_items) {
  // As automata are written: a rule for each state, whose alternatives end with the call of the next one.
  const Nodes list = join({choice({sequence({bytes("a"), rule(1)}), bytes("b")}),
                           choice({sequence({}), sequence({bytes(","), rule(0)}), bytes(";")})});
  const grammar::Grammar compiled(list, std::bitset<256>{}.set());
  grammar::Machine machine(compiled);
  int32_t place = machine.begin();
  for (int i = 0; i < 1000; ++i) place = machine.step(machine.step(place, 'a'), ',');
  CHECK(place != grammar::Machine::kDead);
  CHECK(machine.sets() < 8);
  CHECK(machine.accepts(machine.step(place, 'b')));
  CHECK_EQ(machine.step(place, ';'), grammar::Machine::kDead);
  // Behind the call something comes: there a frame is needed.
  const Nodes nested = choice({sequence({bytes("a"), rule(0), choice({bytes("b"), bytes("c")})}), sequence({})});
  const grammar::Grammar balanced(nested, std::bitset<256>{}.set());
  grammar::Machine counting(balanced);
  place = counting.begin();
  for (const char byte : std::string("aaabc")) place = counting.step(place, static_cast<uint8_t>(byte));
  CHECK(!counting.accepts(place));
  CHECK(counting.accepts(counting.step(place, 'b')));
}

TEST(grammar, sequences_in_threads_find_the_same_masks_together_as_alone) {
  const Nodes arrays = choice({sequence({bytes("["), repeat(0, -1, rule(0)), bytes("]")}), range('a', 'c')});
  const std::vector<std::string> texts{"", "[", "]", "a", "b", "[[", "a]", "]]", "[a", "b[", "[]"};
  const auto own = std::make_shared<TokenTrie>(texts, std::vector<int32_t>{0});
  // More levels than one keeps sets for, so that some begin anew while others go on.
  const auto run = [&](const std::shared_ptr<const CompiledGrammar>& compiled, uint64_t seed) {
    Random choose(seed);
    GrammarConstraint constraint(compiled, own->endTokens());
    std::vector<std::vector<int32_t>> masks;
    for (int i = 0; i < (kReduced ? 1500 : 4000); ++i) {
      masks.push_back(filled(constraint, *own));
      std::vector<int32_t> allowed;
      for (int32_t token = 1; token < own->vocab(); ++token)
        if (has(masks.back(), token)) allowed.push_back(token);
      // Mostly deeper.
      if (allowed.empty()) break;
      constraint.accept(has(masks.back(), 5) && choose.below(8) > 0
                            ? 5
                            : allowed[static_cast<size_t>(choose.below(static_cast<int64_t>(allowed.size())))]);
    }
    return masks;
  };
  const auto shared = std::make_shared<const CompiledGrammar>(arrays, own);
  std::vector<std::vector<std::vector<int32_t>>> found(3);
  {
    TestThreads threads;
    for (size_t i = 0; i < found.size(); ++i) threads.start([&, i] { found[i] = run(shared, i + 1); });
  }
  for (size_t i = 0; i < found.size(); ++i)
    CHECK(found[i] == run(std::make_shared<const CompiledGrammar>(arrays, own), i + 1));
}

}  // namespace shardspeed::test
