#include "runtime/token_scores.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "check.h"
#include "engine_harness.h"
#include "random.h"
#include "tiny_model.h"

namespace shardspeed::test {

static constexpr float kInfinity = std::numeric_limits<float>::infinity();
static constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

static TokenScore scoreOf(ScoreWish wish, const std::vector<float>& logits) {
  return scoreToken(wish, logits.data(), static_cast<int64_t>(logits.size()));
}

TEST(token_scores, are_those_of_a_sorted_row) {
  Random random(300);
  for (int round = 0; round < 300; ++round) {
    const int64_t vocab = random.between(1, 90);
    std::vector<float> logits = random.normals(vocab, 3);
    const int64_t kind = random.below(4);
    for (float& logit : logits) {
      if (kind == 1) logit = std::round(logit);  // many equals
      if (kind == 2) logit = logit > 0 ? 0.0f : -0.0f;
      if (kind == 3 && random.chance(0.3)) logit = -kInfinity;
    }
    if (kind == 3) logits[static_cast<size_t>(random.below(vocab))] = 1;
    const ScoreWish wish{static_cast<int32_t>(random.below(vocab)), static_cast<int32_t>(random.below(70))};
    const Note note("vocab", vocab, "kind", kind, "token", int64_t{wish.token}, "top", int64_t{wish.top});
    const TokenScore score = scoreOf(wish, logits);
    std::vector<int32_t> order(logits.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
      return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)];
    });
    double sum = 0;
    for (const float logit : logits) sum += std::exp(static_cast<double>(logit));
    const auto expected = [&](int32_t token) {
      return static_cast<double>(logits[static_cast<size_t>(token)]) - std::log(sum);
    };
    const auto place = std::find(order.begin(), order.end(), wish.token) - order.begin();
    CHECK(score.finite);
    CHECK_EQ(score.rank, place + 1);
    CHECK(score.logprob == expected(wish.token) || std::abs(score.logprob - expected(wish.token)) < 1e-5);
    REQUIRE(score.top.size() == std::min(static_cast<size_t>(wish.top), logits.size()));
    for (size_t i = 0; i < score.top.size(); ++i) {
      CHECK_EQ(score.top[i].token, order[i]);
      CHECK(score.top[i].logprob == expected(order[i]) || std::abs(score.top[i].logprob - expected(order[i])) < 1e-5);
      // Whoever compares the token's own number with those of others finds it among them, bit by bit.
      if (order[i] == wish.token) CHECK_BITS(&score.top[i].logprob, &score.logprob, 1);
    }
  }
}

TEST(token_scores, logits_that_are_no_numbers_have_none) {
  CHECK(!scoreOf({0, 2}, {1, kNan, 3}).finite);
  CHECK(!scoreOf({0, 2}, {1, kInfinity, 3}).finite);
  CHECK(!scoreOf({0, 0}, {-kInfinity, -kInfinity}).finite);
  const TokenScore impossible = scoreOf({0, 0}, {-kInfinity, 2});
  CHECK(impossible.finite);
  CHECK_EQ(impossible.logprob, -kInfinity);
  CHECK_EQ(impossible.rank, 2);
}

// Large logits, whose exponentials are infinite.
TEST(token_scores, do_not_overflow) {
  const TokenScore score = scoreOf({1, 0}, {1e6f, 1e6f});
  CHECK_NEAR(score.logprob, -std::log(2.0), 1e-6);
}

static std::unique_ptr<Sequence> scored(int64_t id, std::vector<int32_t> prompt, int64_t newTokens, int32_t top,
                                        SamplingParams params = {}) {
  auto sequence = std::make_unique<Sequence>(id, std::move(prompt), newTokens, std::move(params));
  sequence->promptLogprobs = top;
  return sequence;
}

static bool sameBits(const PromptScores& a, const PromptScores& b) {
  const auto same = [](const auto& x, const auto& y) {
    return x.size() == y.size() && std::memcmp(x.data(), y.data(), x.size() * sizeof(x[0])) == 0;
  };
  return same(a.logprobs, b.logprobs) && same(a.ranks, b.ranks) && same(a.topTokens, b.topTokens) &&
         same(a.topLogprobs, b.topLogprobs);
}

// Against the logits of the definition, in fp64.
static void checkScores(const TinyModel& model, const std::vector<int32_t>& prompt, const PromptScores& found,
                        int32_t top) {
  const auto vocab = static_cast<size_t>(model.spec().vocabSize);
  const std::vector<double> logits = model.logits(prompt);
  REQUIRE(found.logprobs.size() == prompt.size() - 1);
  REQUIRE(found.ranks.size() == prompt.size() - 1);
  REQUIRE(found.topTokens.size() == (prompt.size() - 1) * static_cast<size_t>(top));
  REQUIRE(found.topLogprobs.size() == found.topTokens.size());
  for (size_t i = 0; i + 1 < prompt.size(); ++i) {
    const double* row = logits.data() + i * vocab;
    double sum = 0;
    for (size_t token = 0; token < vocab; ++token) sum += std::exp(row[token]);
    CHECK_NEAR(found.logprobs[i], row[prompt[i + 1]] - std::log(sum), 1e-4);
    for (size_t k = 0; k < static_cast<size_t>(top); ++k) {
      const size_t at = i * static_cast<size_t>(top) + k;
      CHECK_NEAR(found.topLogprobs[at], row[found.topTokens[at]] - std::log(sum), 1e-4);
      if (k > 0) CHECK(found.topLogprobs[at] <= found.topLogprobs[at - 1]);
      if (found.topTokens[at] == prompt[i + 1]) CHECK_EQ(found.ranks[i], k + 1);
    }
  }
}

// In chunks of all sizes, in steps with sequences that generate and with outputs of all rows, and with so few pages
// that sequences lose theirs in the middle of their prompts and behind them.
TEST(engine, scores_of_prompts_depend_on_nothing_else) {
  TinyModel model(llamaSpec(), DType::kF32, 301);
  Random random(302);
  std::vector<std::vector<int32_t>> prompts;
  for (const int64_t length : {1, 2, 40, 70}) prompts.push_back(promptOf(random, model.spec(), length));
  const int32_t tops[] = {0, 3, 20, 1};
  SamplingParams penalized;  // changes what is chosen, but no score
  penalized.repetitionPenalty = 1.5f;
  penalized.biases = {{3, 50.0f}};
  std::vector<PromptScores> first;
  std::vector<std::vector<int32_t>> tokens;
  bool preempted = false;
  for (const int threads : {1, 3})
    for (const int64_t batch : {1, 7, 200})
      for (const int64_t pages : {7, 64}) {
        const Note note("threads", threads, "batch", batch, "pages", pages);
        Harness harness(optionsFor(model, threads, batch, pages));
        for (int64_t id = 10; id < 14; ++id) harness.submit(id, promptOf(random, model.spec(), 12), 30);
        harness.submit(20, prompts[2], 0, {}, true);
        for (size_t i = 0; i < prompts.size(); ++i)
          harness.submit(scored(static_cast<int64_t>(i), prompts[i], 20, tops[i], penalized));
        for (size_t i = 0; i < prompts.size(); ++i) {
          const Harness::Result result = harness.result(static_cast<int64_t>(i));
          CHECK_EQ(result.prompts, 1);
          CHECK_EQ(result.tokens.size(), 20u);
          if (first.size() == i) {
            checkScores(model, prompts[i], result.prompt, tops[i]);
            first.push_back(result.prompt);
            tokens.push_back(result.tokens);
          }
          CHECK(sameBits(result.prompt, first[i]));
          CHECK(result.tokens == tokens[i]);
        }
        for (int64_t id = 10; id < 14; ++id) CHECK_EQ(harness.result(id).prompts, 0);
        CHECK_EQ(harness.result(20).logits.size(), prompts[2].size() * static_cast<size_t>(model.spec().vocabSize));
        harness.stop();
        preempted |= harness.engine().stats().preemptions > 0;
      }
  CHECK(preempted);
}

TEST(engine, prompts_are_scored_without_new_tokens) {
  TinyModel model(optSpec(), DType::kF32, 303);
  Random random(304);
  const int64_t most = model.spec().maxPositions;
  Harness harness(optionsFor(model, 2, 16, 64));
  const std::vector<int32_t> prompt = promptOf(random, model.spec(), most);  // no room for a new one
  harness.submit(scored(1, prompt, 0, 2));
  harness.submit(scored(2, prompt, 0, -1));
  harness.submit(scored(3, {5}, 0, 4));
  const Harness::Result result = harness.result(1);
  CHECK_EQ(result.prompts, 1);
  CHECK(result.tokens.empty());
  CHECK(result.reason == FinishReason::kLength);
  checkScores(model, prompt, result.prompt, 2);
  CHECK_EQ(harness.result(2).prompts, 0);
  CHECK(harness.result(2).reason == FinishReason::kLength);
  CHECK_EQ(harness.result(3).prompts, 1);
  CHECK(harness.result(3).prompt.logprobs.empty());
  harness.stop();
  CHECK_EQ(harness.engine().stats().kvPagesFree, 64);
}

// The same bits as the log-probability of a generated token behind the same tokens.
TEST(engine, scores_are_what_generated_tokens_have) {
  TinyModel model(llamaSpec(), DType::kF32, 305);
  Random random(306);
  std::vector<int32_t> prompt = promptOf(random, model.spec(), 20);
  Harness harness(optionsFor(model));
  SamplingParams params;
  params.logprobs = 0;
  harness.submit(1, prompt, 25, params);
  const Harness::Result made = harness.result(1);
  prompt.insert(prompt.end(), made.tokens.begin(), made.tokens.end());
  harness.submit(scored(2, prompt, 0, 0));
  const PromptScores read = harness.result(2).prompt;
  REQUIRE(read.logprobs.size() == 44u);
  CHECK_BITS(read.logprobs.data() + 19, made.logprobs.data(), 25);
  for (size_t i = 19; i < 44; ++i) CHECK_EQ(read.ranks[i], 1);  // greedy
  // The pages of the text are in the cache by now; they are of use once the prompt has been scored, and not before.
  harness.submit(3, prompt, 1);
  harness.result(3);
  harness.submit(scored(4, prompt, 1, 0));
  CHECK_BITS(harness.result(4).prompt.logprobs.data(), read.logprobs.data(), 44);
  harness.stop();
  CHECK_EQ(harness.engine().stats().prefixQueries, 20 + 45);
  CHECK_EQ(harness.engine().stats().prefixHits, 32);
}

}  // namespace shardspeed::test
