#include <string>
#include <utility>

#include "check.h"
#include "engine_harness.h"
#include "kernel_sets.h"
#include "variant_specs.h"

// Engines whose sequences share pages: the same tokens and log-probabilities as without, and no page is lost.

namespace shardspeed::test {

namespace {

using Tokens = std::vector<int32_t>;

struct Asked {
  Tokens prompt;
  int64_t newTokens;
  SamplingParams params;
  std::string salt;
  bool cancelled;
};

// Prompts that begin with another's prompt, or with a part of it.
std::vector<Asked> askedOf(Random& random, const ModelSpec& spec, int64_t count) {
  std::vector<Asked> asked;
  for (int64_t i = 0; i < count; ++i) {
    Asked one;
    if (i > 0 && random.chance(0.8)) {
      const Tokens& other = asked[static_cast<size_t>(random.below(i))].prompt;
      one.prompt.assign(other.begin(), other.begin() + random.between(0, static_cast<int64_t>(other.size())));
    }
    const Tokens own = promptOf(random, spec, random.between(one.prompt.empty() ? 1 : 0, 24));
    one.prompt.insert(one.prompt.end(), own.begin(), own.end());
    one.prompt.resize(std::min<size_t>(one.prompt.size(), 48));
    one.newTokens = random.between(1, 24);
    one.params.seed = static_cast<uint64_t>(i);
    one.params.temperature = i % 2 == 0 ? 0.0f : 0.9f;
    one.params.logprobs = i % 3 == 0 ? 2 : 0;
    if (i % 5 == 0) one.params.repetitionPenalty = 1.1f;
    one.salt = random.chance(0.2) ? "a" : "";
    one.cancelled = random.chance(0.15);
    asked.push_back(std::move(one));
  }
  return asked;
}

std::vector<Harness::Result> answersOf(const std::vector<Asked>& asked, EngineOptions options, EngineStats& stats) {
  const int64_t pages = options.kvCachePages;
  Harness harness(std::move(options));
  std::vector<Harness::Result> results;
  for (size_t i = 0; i < asked.size(); ++i) {
    const Asked& one = asked[i];
    const auto id = static_cast<int64_t>(i);
    auto sequence = std::make_unique<Sequence>(id, one.prompt, one.newTokens, one.params);
    sequence->cacheSalt = one.salt;
    harness.submit(std::move(sequence));
    // Some come when others have ended, some while they run.
    if (i % 4 == 3) harness.waitDone(id);
    if (one.cancelled) harness.engine().cancel(id);
  }
  for (size_t i = 0; i < asked.size(); ++i) results.push_back(harness.result(static_cast<int64_t>(i)));
  harness.stop();
  CHECK(harness.failures().empty());
  stats = harness.engine().stats();
  CHECK_EQ(stats.kvPagesFree, pages);
  return results;
}

// Of a sequence that was cancelled only the beginning is there.
void checkSame(const std::vector<Asked>& asked, const std::vector<Harness::Result>& found,
               const std::vector<Harness::Result>& expected) {
  for (size_t i = 0; i < asked.size(); ++i) {
    const Note note("sequence", i);
    const size_t count =
        asked[i].cancelled ? std::min(found[i].tokens.size(), expected[i].tokens.size()) : expected[i].tokens.size();
    REQUIRE(found[i].tokens.size() >= count);
    REQUIRE(found[i].logprobs.size() >= count);
    CHECK(std::equal(expected[i].tokens.begin(), expected[i].tokens.begin() + static_cast<std::ptrdiff_t>(count),
                     found[i].tokens.begin()));
    CHECK_BITS(found[i].logprobs.data(), expected[i].logprobs.data(), static_cast<int64_t>(count));
    if (!asked[i].cancelled) CHECK(found[i].reason == expected[i].reason);
  }
}

struct Totals {
  int64_t hits = 0, preemptions = 0, drafts = 0;
};

void compare(TinyModel& model, uint64_t seed, const std::string& device, int ranks, Totals& totals) {
  Random random(seed);
  const std::vector<Asked> asked = askedOf(random, model.spec(), 14);
  std::vector<Harness::Result> expected;
  const std::pair<int64_t, int64_t> sizes[] = {{64, 64}, {64, 6}, {7, 9}};
  for (const auto& [batch, pages] : sizes)
    for (const bool drafts : {false, true}) {
      if (drafts && expected.empty()) continue;
      const Note note(ranks, "ranks", batch, "rows", pages, "pages", drafts ? "drafts" : "no drafts");
      EngineOptions options = optionsFor(model, 2, batch, pages);
      options.tpSize = ranks;
      options.devices.assign(static_cast<size_t>(ranks), device);
      if (drafts) options.lookup = {4, 1, 3};
      EngineStats stats;
      if (expected.empty()) {
        EngineOptions without = options;
        without.prefixCache = false;
        expected = answersOf(asked, std::move(without), stats);
        CHECK_EQ(stats.prefixQueries + stats.prefixHits + stats.kvPagesFindable, 0);
      }
      checkSame(asked, answersOf(asked, std::move(options), stats), expected);
      totals.hits += stats.prefixHits;
      totals.preemptions += stats.preemptions;
      totals.drafts += stats.drafts;
    }
}

}  // namespace

TEST(prefix_cache, changes_no_token_of_any_variant) {
  Totals totals;
  for (const Variant& variant : variants()) {
    const Note note(variant.name);
    TinyModel model(variant.spec, DType::kF32, 80);
    compare(model, 41, "cpu", 1, totals);
  }
  CHECK(totals.hits > 200);
  CHECK(totals.preemptions > 10);
  CHECK(totals.drafts > 100);
}

TEST(prefix_cache, changes_no_token_with_any_kernels) {
  for (const std::string& name : availableKernels()) {
    const Note note(name);
    const ChosenKernels chosen(name);
    Totals totals;
    TinyModel model(llamaSpec(), DType::kBF16, 81);
    // The sixth has the prompts of which most is found.
    for (uint64_t seed = kReduced ? 6 : 1; seed <= (kReduced ? 6 : 8); ++seed) compare(model, seed, "cpu", 1, totals);
    CHECK(totals.hits > 200);
  }
}

TEST(prefix_cache, changes_no_token_of_two_ranks) {
  Totals totals;
  TinyModel model(llamaSpec(), DType::kF32, 82);
  compare(model, 3, "cpu", 2, totals);
  CHECK(totals.hits > 100);
}

TEST(prefix_cache, the_second_turn_of_a_chat_computes_what_is_new) {
  TinyModel model(llamaSpec(), DType::kF32, 83);
  Random random(5);
  Harness harness(optionsFor(model, 2, 64, 16));
  Tokens chat = promptOf(random, model.spec(), 40);
  harness.submit(1, chat, 10);
  const Tokens answer = harness.result(1).tokens;
  chat.insert(chat.end(), answer.begin(), answer.end());
  const Tokens next = promptOf(random, model.spec(), 5);
  chat.insert(chat.end(), next.begin(), next.end());
  harness.submit(2, chat, 3);
  harness.waitDone(2);
  harness.stop();
  // 49 tokens of the first turn are in the cache: the last one of the answer was not computed.
  const EngineStats stats = harness.engine().stats();
  CHECK_EQ(stats.prefixQueries, 40 + 55);
  CHECK_EQ(stats.prefixHits, 48);
  CHECK_EQ(harness.result(2).cachedTokens, 48);
  CHECK_EQ(harness.result(1).cachedTokens, 0);
  CHECK_EQ(stats.kvPagesFindable, 3);
}

}  // namespace shardspeed::test
