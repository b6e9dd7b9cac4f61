#include <cmath>

#include "check.h"
#include "engine_harness.h"
#include "runtime/beam_group.h"

// Beam searches in the engine, against the same search over logits in fp64 that no cache has been used for. What a
// search keeps and when it ends is checked against transformers: test/engine/beams.test.ts.

namespace shardspeed::test {

static BeamParams paramsOf(int64_t beams, EarlyStopping early = EarlyStopping::kNo, float penalty = 1) {
  return {beams, penalty, early};
}

static std::unique_ptr<Sequence> searchOf(int64_t id, int64_t texts, const std::vector<int32_t>& prompt,
                                          int64_t newTokens, const BeamParams& beams,
                                          const SamplingParams& params = {}) {
  auto sequence = std::make_unique<Sequence>(id, prompt, newTokens, params);
  std::vector<int64_t> ids;
  for (int64_t i = 0; i < texts; ++i) ids.push_back(id + i);
  sequence->beams = std::make_shared<BeamGroup>(beams, *sequence, std::move(ids));
  return sequence;
}

static std::vector<BeamText> searchWithout(const TinyModel& model, const std::vector<int32_t>& prompt,
                                           int64_t newTokens, const BeamParams& beams, const SamplingParams& params) {
  const int64_t vocab = model.spec().vocabSize;
  struct Beam {
    std::vector<int32_t> tokens;
    Sampler sampler;
  };
  std::vector<Beam> running = {{prompt, Sampler(params, prompt.data(), static_cast<int64_t>(prompt.size()))}};
  BeamSearch search(beams, params.stopTokens, newTokens);
  while (!running.empty()) {
    std::vector<BeamRow> rows;
    for (const Beam& beam : running) {
      const std::vector<double> logits = model.logits(beam.tokens);
      std::vector<float> last(logits.end() - vocab, logits.end());
      rows.push_back(rankCandidates(beam.sampler, last.data(), vocab, search.candidates()));
    }
    std::vector<Beam> next;
    for (const auto& [parent, token] : search.advance(rows)) {
      next.push_back(running[parent]);
      next.back().tokens.push_back(token);
      next.back().sampler.accept(token);
    }
    running = std::move(next);
  }
  return search.found();
}

static void checkTexts(Harness& harness, int64_t id, size_t texts, const std::vector<BeamText>& expected) {
  REQUIRE(expected.size() >= texts);
  for (size_t i = 0; i < texts; ++i) {
    const Note note("text", i);
    const Harness::Result found = harness.result(id + static_cast<int64_t>(i));
    std::vector<int32_t> tokens;
    for (const SampledToken& token : expected[i].tokens) tokens.push_back(token.token);
    CHECK(found.tokens == tokens);
    REQUIRE(found.score.has_value());
    CHECK_NEAR(*found.score, expected[i].score, 1e-4);
    REQUIRE(found.logprobs.size() == tokens.size());
    for (size_t at = 0; at < tokens.size(); ++at) CHECK_NEAR(found.logprobs[at], expected[i].tokens[at].logprob, 1e-4);
  }
}

TEST(beams, texts_are_those_of_a_search_without_a_cache) {
  ModelSpec dynamic = llamaSpec();
  makeDynamic(dynamic.rotaryTables[0], 24, 2);
  for (const ModelSpec& spec : {llamaSpec(), optSpec(), dynamic}) {
    TinyModel model(spec, DType::kF32, 80);
    Random random(95);
    SamplingParams params;
    params.logprobs = 1;
    params.stopTokens = {3, 7};
    params.repetitionPenalty = 1.2f;
    params.minNewTokens = 2;
    for (const int64_t length : {1, 14, 17, 30}) {
      const std::vector<int32_t> prompt = promptOf(random, spec, length);
      const BeamParams beams =
          paramsOf(random.between(2, 5), static_cast<EarlyStopping>(random.below(3)), random.chance(0.5) ? 1 : 2);
      const int64_t newTokens = random.between(10, 25), texts = random.between(1, beams.beams);
      const std::vector<BeamText> expected = searchWithout(model, prompt, newTokens, beams, params);
      for (const int64_t batch : {1, 3, 64})
        for (const int64_t pages : {4, 7, 64}) {
          if (kReduced && batch != 3) continue;
          const Note note(spec.family, "length", length, "batch", batch, "pages", pages, "beams", beams.beams);
          Harness harness(optionsFor(model, 2, batch, pages));
          harness.submit(searchOf(1, texts, prompt, newTokens, beams, params));
          checkTexts(harness, 1, static_cast<size_t>(texts), expected);
          harness.stop();
          CHECK_EQ(harness.engine().stats().kvPagesFree, pages);
          CHECK_EQ(harness.engine().stats().running + harness.engine().stats().waiting, 0);
        }
    }
  }
}

// Searches and samples that take pages from each other.
TEST(beams, random_runs_lose_nothing) {
  TinyModel model(llamaSpec(), DType::kF32, 91);
  int64_t preemptions = 0;
  for (uint64_t seed = 1; seed <= (kReduced ? 3 : 15); ++seed) {
    Random random(seed);
    const int64_t pages = random.between(5, 25);
    const Note note("seed", seed, "pages", pages);
    Harness alone(optionsFor(model)), harness(optionsFor(model, 2, random.between(1, 40), pages));
    int64_t last = 0;
    std::vector<int64_t> cancelled;
    for (int request = 0; request < 5; ++request) {
      const std::vector<int32_t> prompt = promptOf(random, model.spec(), random.between(1, 45));
      SamplingParams params;
      params.stopTokens = {5};
      params.logprobs = 0;
      const int64_t newTokens = random.between(1, 30), beams = random.between(1, 6), texts = random.between(1, beams);
      for (Harness* one : {&alone, &harness})
        if (request % 2 == 0)
          one->submit(searchOf(last + 1, texts, prompt, newTokens, paramsOf(beams), params));
        else
          one->submit(std::make_unique<Sequence>(last + 1, prompt, newTokens, params));
      last += request % 2 == 0 ? texts : 1;
      if (!random.chance(0.4)) continue;
      cancelled.push_back(random.between(1, last));
      harness.engine().cancel(cancelled.back());
    }
    for (int64_t id = 1; id <= last; ++id) {
      const Harness::Result found = harness.result(id), wanted = alone.result(id);
      const Note which("request", id);
      if (found.reason == FinishReason::kCancelled)
        CHECK(std::find(cancelled.begin(), cancelled.end(), id) != cancelled.end());
      else
        CHECK(found.tokens == wanted.tokens && found.score == wanted.score && found.logprobs == wanted.logprobs);
    }
    harness.stop();
    CHECK_EQ(harness.engine().stats().kvPagesFree, pages);
    CHECK_EQ(harness.engine().stats().running + harness.engine().stats().waiting, 0);
    preemptions += harness.engine().stats().preemptions;
  }
  CHECK(preemptions > 0);
}

TEST(beams, full_pages_are_shared_and_others_copied) {
  TinyModel model(llamaSpec(), DType::kF32, 92);
  Harness harness(optionsFor(model, 1, 64, 9));
  Random random(96);
  // Three pages of the prompt, and two of each of three beams at the end: 15 pages, were they not shared.
  harness.submit(searchOf(1, 3, promptOf(random, model.spec(), 48), 20, paramsOf(3)));
  CHECK_EQ(harness.result(3).tokens.size(), 20u);
  harness.stop();
  CHECK_EQ(harness.engine().stats().preemptions, 0);
}

TEST(beams, a_search_ends_when_none_of_its_texts_is_wanted) {
  ModelSpec spec = llamaSpec();
  spec.maxPositions = 8000;
  TinyModel model(spec, DType::kF16, 87);
  Harness harness(optionsFor(model, 2, 16, 1200));
  harness.submit(searchOf(1, 2, {1, 2, 3}, 5000, paramsOf(3)));
  harness.engine().cancel(1);
  CHECK(harness.result(1).reason == FinishReason::kCancelled);
  harness.engine().cancel(1);
  harness.engine().cancel(2);
  CHECK(harness.result(2).reason == FinishReason::kCancelled);
  harness.submit(4, {1}, 1);
  harness.result(4);
  harness.stop();
  CHECK_EQ(harness.engine().stats().kvPagesFree, 1200);
}

TEST(beams, constraints_that_allow_nothing_are_an_error) {
  TinyModel model(llamaSpec(), DType::kF32, 88);
  Harness harness(optionsFor(model));
  struct Nothing : TokenConstraint {
    bool fill(int32_t* mask) override {
      std::fill_n(mask, maskWords(llamaSpec().vocabSize), 0);
      return true;
    }
    void accept(int32_t) override {}
    void rollback(int64_t) override {}
    std::unique_ptr<TokenConstraint> clone() const override { return std::make_unique<Nothing>(); }
  };
  auto sequence = searchOf(1, 2, {1, 2, 3}, 5, paramsOf(2));
  sequence->sampler.constrain(std::make_unique<Nothing>());
  harness.submit(std::move(sequence));
  for (const int64_t id : {1, 2}) CHECK_EQ(harness.result(id).code, "ERR_INVALID_ARGUMENT");
  harness.stop();
  CHECK_EQ(harness.engine().stats().kvPagesFree, 64);
}

}  // namespace shardspeed::test
