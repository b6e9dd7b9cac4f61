#include "runtime/prompt_lookup.h"

#include <algorithm>

#include "check.h"
#include "drafted_requests.h"
#include "random.h"
#include "variant_specs.h"

namespace shardspeed::test {

using Tokens = std::vector<int32_t>;

static LookupOptions lookupOf(int64_t draftTokens, int64_t minMatch, int64_t maxMatch) {
  LookupOptions options;
  options.draftTokens = draftTokens;
  options.minMatch = minMatch;
  options.maxMatch = maxMatch;
  return options;
}

TEST(prompt_lookup, goes_on_as_text_did_before) {
  const LookupOptions options = lookupOf(4, 2, 4);
  CHECK(lookUpDraft({1, 2, 3, 4, 5, 9, 1, 2}, options, 3) == Tokens({3, 4, 5}));
  CHECK(lookUpDraft({1, 2, 3, 4, 5, 9, 1, 2}, options, 1) == Tokens({3}));
  // The longest agreement wins, and of equal ones the latest.
  CHECK(lookUpDraft({7, 1, 2, 3, 8, 1, 2, 4, 7, 1, 2}, options, 1) == Tokens({3}));
  CHECK(lookUpDraft({6, 1, 2, 3, 8, 1, 2, 4, 7, 1, 2}, options, 1) == Tokens({4}));
  // No longer one than maxMatch is looked for.
  CHECK(lookUpDraft({1, 2, 3, 4, 5, 9, 8, 2, 3, 4, 6, 1, 2, 3, 4}, lookupOf(4, 2, 3), 1) == Tokens({6}));
  CHECK(lookUpDraft({1, 2, 3, 4, 5, 9, 8, 2, 3, 4, 6, 1, 2, 3, 4}, lookupOf(4, 2, 4), 1) == Tokens({5}));
}

TEST(prompt_lookup, a_repeated_end_goes_on_repeating) {
  CHECK(lookUpDraft({5, 5, 5}, lookupOf(4, 2, 4), 4) == Tokens({5, 5, 5, 5}));
  CHECK(lookUpDraft({1, 2, 3, 1, 2, 3, 1, 2}, lookupOf(8, 2, 4), 7) == Tokens({3, 1, 2, 3, 1, 2, 3}));
}

TEST(prompt_lookup, finds_nothing_where_nothing_agrees) {
  for (const Tokens& tokens : {Tokens{}, Tokens{1}, Tokens{1, 1}, Tokens{1, 2, 3, 4}, Tokens{2, 3, 1, 3}})
    CHECK(lookUpDraft(tokens, lookupOf(4, 2, 4), 4).empty());
}

// Against a search that tries every place and length.
TEST(prompt_lookup, random_texts) {
  Random random(31);
  for (int round = 0; round < (kReduced ? 300 : 3000); ++round) {
    const LookupOptions options = lookupOf(5, random.between(1, 3), random.between(3, 5));
    Tokens tokens;
    for (int64_t i = random.between(0, 20); i-- > 0;) tokens.push_back(static_cast<int32_t>(random.between(0, 2)));
    const auto length = static_cast<int64_t>(tokens.size());
    int64_t best = 0, bestEnd = 0;
    for (int64_t match = options.minMatch; match <= options.maxMatch; ++match)
      for (int64_t end = match; end < length; ++end)
        if (match > best || end > bestEnd)
          if (std::equal(tokens.end() - match, tokens.end(), tokens.begin() + end - match)) best = match, bestEnd = end;
    Tokens expected, text = tokens;
    if (bestEnd > 0)
      for (int64_t i = 0; i < 5; ++i) {
        expected.push_back(text[static_cast<size_t>(bestEnd + i)]);
        text.push_back(expected.back());
      }
    CHECK(lookUpDraft(tokens, options, 5) == expected);
  }
}

TEST(prompt_lookup, drafts_change_no_token) {
  int64_t accepted = 0, refused = 0, preemptions = 0;
  for (const Variant& variant : variants()) {
    const Note note(variant.name);
    TinyModel model(variant.spec, DType::kF32, 80);
    Random random(33);
    const std::vector<Asked> asked = askedOf(random, variant.spec);
    EngineStats stats;
    const std::vector<Harness::Result> expected = answersOf(asked, optionsFor(model, 2, 64, 64), stats);
    CHECK_EQ(stats.drafts, 0);
    for (const int64_t pages : {64, 6})
      for (const int64_t batch : {64, 7}) {
        if (kReduced && (pages == 64) != (batch == 64)) continue;
        const Note limits("pages", pages, "batch", batch);
        EngineOptions options = optionsFor(model, 2, batch, pages);
        options.lookup = lookupOf(pages == 64 ? 12 : 3, 1, 3);
        const std::vector<Harness::Result> found = answersOf(asked, options, stats);
        checkSame(found, expected);
        accepted += stats.acceptedTokens;
        refused += stats.draftTokens - stats.acceptedTokens;
        preemptions += stats.preemptions;
        int64_t sum = 0;
        for (const int64_t count : stats.acceptedAt) sum += count;
        CHECK_EQ(sum, stats.acceptedTokens);
        CHECK_EQ(stats.kvPagesFree, stats.kvPagesTotal);
      }
  }
  CHECK(accepted > 200);
  CHECK(refused > 200);
  CHECK(preemptions > 10);
}

TEST(prompt_lookup, a_sequence_may_do_without_drafts) {
  TinyModel model(llamaSpec(), DType::kF32, 80);
  EngineOptions options = optionsFor(model, 2, 64, 64);
  options.lookup = lookupOf(8, 1, 3);
  Harness harness(std::move(options));
  auto sequence = std::make_unique<Sequence>(1, Tokens(20, 5), 20, SamplingParams{});
  sequence->speculates = false;
  harness.submit(std::move(sequence));
  CHECK_EQ(harness.result(1).tokens.size(), 20u);
  harness.stop();
  CHECK_EQ(harness.engine().stats().drafts, 0);
}

}  // namespace shardspeed::test
