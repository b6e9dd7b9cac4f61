#include "runtime/engine.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "check.h"
#include "engine_harness.h"
#include "test_threads.h"
#include "tiny_model.h"
#include "variant_specs.h"

namespace shardspeed::test {

TEST(engine, greedy_tokens_are_those_of_the_model_whatever_the_limits) {
  ModelSpec dynamic = llamaSpec();
  makeDynamic(dynamic.rotaryTables[0], 16, 2);
  for (const ModelSpec& spec : {llamaSpec(), optSpec(), dynamic, expertsSpec()}) {
    TinyModel model(spec, DType::kF32, 80);
    Random random(81);
    std::vector<std::vector<int32_t>> prompts;
    std::vector<std::vector<int32_t>> expected;
    for (const int64_t length : {1, 13, 16, 30}) {
      prompts.push_back(promptOf(random, spec, length));
      expected.push_back(model.continuation(prompts.back(), 12));
    }
    for (const int threads : {1, 3})
      for (const int64_t batch : {1, 5, 64}) {
        if (kReduced && (threads == 1) != (batch == 5)) continue;
        for (const int64_t pages : {3, 64}) {
          const Note note(spec.family, "dynamic", dynamicOriginalPositions(spec), "threads", threads, "batch", batch,
                          "pages", pages);
          Harness harness(optionsFor(model, threads, batch, pages));
          for (size_t i = 0; i < prompts.size(); ++i) harness.submit(static_cast<int64_t>(i) + 1, prompts[i], 12);
          for (size_t i = 0; i < prompts.size(); ++i) {
            const Harness::Result result = harness.result(static_cast<int64_t>(i) + 1);
            CHECK(result.tokens == expected[i]);
            CHECK(result.reason == FinishReason::kLength);
          }
        }
      }
  }
}

// In small batches, with so few pages that sequences are computed again.
TEST(engine, greedy_tokens_of_every_variant) {
  for (const Variant& variant : variants()) {
    const Note note(variant.name);
    TinyModel model(variant.spec, DType::kF32, 80);
    Random random(81);
    Harness harness(optionsFor(model, 2, 5, 4));
    std::vector<std::vector<int32_t>> expected;
    for (const int64_t length : {1, 13, 30}) {
      const std::vector<int32_t> prompt = promptOf(random, variant.spec, length);
      expected.push_back(model.continuation(prompt, 12));
      harness.submit(static_cast<int64_t>(expected.size()), prompt, 12);
    }
    for (size_t i = 0; i < expected.size(); ++i)
      CHECK(harness.result(static_cast<int64_t>(i) + 1).tokens == expected[i]);
  }
}

TEST(engine, tight_pages_change_no_token) {
  TinyModel model(llamaSpec(), DType::kF16, 82);
  Random random(83);
  SamplingParams params;
  params.temperature = 0.9f;
  params.topP = 0.95f;
  std::vector<std::vector<int32_t>> prompts;
  for (int i = 0; i < 6; ++i) prompts.push_back(promptOf(random, model.spec(), random.between(1, 30)));
  std::vector<std::vector<int32_t>> first;
  for (const int64_t pages : {64, 5}) {
    Harness harness(optionsFor(model, 2, 32, pages));
    for (size_t i = 0; i < prompts.size(); ++i) {
      params.seed = i;
      harness.submit(static_cast<int64_t>(i), prompts[i], 40, params);
    }
    for (size_t i = 0; i < prompts.size(); ++i) {
      const std::vector<int32_t> tokens = harness.result(static_cast<int64_t>(i)).tokens;
      CHECK_EQ(tokens.size(), 40u);
      if (pages == 64)
        first.push_back(tokens);
      else
        CHECK(tokens == first[i]);
    }
    harness.stop();
    const EngineStats stats = harness.engine().stats();
    CHECK_EQ(stats.preemptions > 0, pages == 5);
    CHECK_EQ(stats.generatedTokens, 240);
    CHECK_EQ(harness.exits(), 1);
  }
}

TEST(engine, forward_gives_logits_at_all_positions) {
  TinyModel model(optSpec(), DType::kF32, 84);
  Random random(85);
  const std::vector<int32_t> prompt = promptOf(random, model.spec(), 70);
  const std::vector<double> expected = model.logits(prompt);
  std::vector<float> first;
  for (const int64_t batch : {200, 70, 9}) {
    Harness harness(optionsFor(model, 2, batch, 12));
    for (int64_t id = 1; id <= 5; ++id) {
      if (id == 3)
        harness.submit(id, promptOf(random, model.spec(), 20), 20);
      else
        harness.submit(id, prompt, 0, {}, true);
    }
    for (const int64_t id : {1, 2, 4, 5}) {
      const Harness::Result result = harness.result(id);
      REQUIRE(result.logits.size() == expected.size());
      CHECK(result.tokens.empty());
      if (first.empty()) first = result.logits;
      CHECK_BITS(result.logits.data(), first.data(), static_cast<int64_t>(first.size()));
    }
    CHECK_EQ(harness.result(3).tokens.size(), 20u);
  }
  for (size_t i = 0; i < first.size(); ++i) CHECK_NEAR(first[i], expected[i], 1e-4);
}

TEST(engine, stop_tokens_and_log_probabilities) {
  TinyModel model(llamaSpec(), DType::kF32, 86);
  const std::vector<int32_t> prompt = {1, 2, 3};
  const std::vector<int32_t> all = model.continuation(prompt, 20);
  Harness harness(optionsFor(model));
  SamplingParams params;
  params.stopTokens = {all[6]};
  params.logprobs = 2;
  harness.submit(1, prompt, 20, params);
  const Harness::Result result = harness.result(1);
  const auto end = std::find(all.begin(), all.end(), all[6]) + 1;
  CHECK(result.tokens == std::vector<int32_t>(all.begin(), end));
  CHECK(result.reason == FinishReason::kStop);
  CHECK_EQ(result.logprobs.size(), result.tokens.size());
  std::vector<double> logits = model.logits(prompt);
  logits.erase(logits.begin(), logits.end() - model.spec().vocabSize);
  double sum = 0;
  for (const double logit : logits) sum += std::exp(logit);
  CHECK_NEAR(result.logprobs[0], logits[static_cast<size_t>(all[0])] - std::log(sum), 1e-4);
  // The stop token is the last that may come: both reasons hold, and the token counts as a stop.
  params.stopTokens = {all[0]};
  harness.submit(2, prompt, 1, params);
  CHECK(harness.result(2).reason == FinishReason::kStop);
}

TEST(engine, cancelled_sequences_end_and_free_their_pages) {
  ModelSpec spec = llamaSpec();
  spec.maxPositions = 8000;  // far more than there is time for before they are cancelled
  TinyModel model(spec, DType::kF16, 87);
  Harness harness(optionsFor(model, 2, 16, 1200));
  harness.engine().cancel(99);  // nobody
  harness.submit(1, {1, 2, 3}, 7900);
  harness.submit(2, {4, 5}, 100);
  harness.submit(3, std::vector<int32_t>(100, 7), 7900);
  harness.engine().cancel(3);
  harness.waitTokens(1, 3);
  harness.engine().cancel(1);
  harness.engine().cancel(1);
  CHECK(harness.result(1).reason == FinishReason::kCancelled);
  CHECK(harness.result(3).reason == FinishReason::kCancelled);
  const Harness::Result second = harness.result(2);
  CHECK(second.reason == FinishReason::kLength);
  CHECK_EQ(second.tokens.size(), 100u);
  harness.engine().cancel(2);
  harness.submit(4, {1, 2, 3}, 2);
  harness.waitDone(4);
  harness.stop();
  CHECK_EQ(harness.result(1).done, 1);
  const EngineStats stats = harness.engine().stats();
  CHECK_EQ(stats.kvPagesTotal, 1200);
  CHECK_EQ(stats.running + stats.waiting, 0);
  CHECK_EQ(stats.kvPagesFree, 1200);
  CHECK_EQ(stats.promptTokens, 3 + 2 + 100 + 3);
}

TEST(engine, threads_submit_and_cancel_at_once) {
  TinyModel model(llamaSpec(), DType::kF16, 88);
  const std::vector<int32_t> prompt = {5, 6, 7, 8};
  Harness harness(optionsFor(model, 2, 24, 20));
  harness.submit(0, prompt, 15);
  const std::vector<int32_t> expected = harness.result(0).tokens;
  constexpr int64_t kEach = kReduced ? 12 : 60;
  TestThreads threads;
  for (int64_t thread = 0; thread < 4; ++thread)
    threads.start([&, thread] {
      Random random(static_cast<uint64_t>(thread) + 90);
      for (int64_t i = 0; i < kEach; ++i) {
        const int64_t id = 1 + thread * kEach + i;
        harness.submit(id, prompt, 15);
        if (random.chance(0.4)) harness.engine().cancel(random.between(1, id));
        if (random.chance(0.3)) harness.engine().stats();
        if (random.chance(0.2)) std::this_thread::sleep_for(std::chrono::microseconds(random.below(300)));
      }
    });
  threads.join();
  int64_t complete = 0;
  for (int64_t id = 1; id <= 4 * kEach; ++id) {
    const Harness::Result result = harness.result(id);
    const bool cancelled = result.reason == FinishReason::kCancelled;
    complete += !cancelled;
    // Cancelled or not, what came is right.
    REQUIRE(result.tokens.size() <= expected.size());
    CHECK(std::equal(result.tokens.begin(), result.tokens.end(), expected.begin()));
    if (!cancelled) CHECK_EQ(result.tokens.size(), expected.size());
  }
  CHECK(complete > 0);
}

TEST(engine, ends_at_any_moment) {
  TinyModel model(llamaSpec(), DType::kF16, 91);
  Random random(92);
  for (int round = 0; round < (kReduced ? 12 : 60); ++round) {
    const Note note("round", round);
    Harness harness(optionsFor(model, static_cast<int>(random.between(1, 3)), 16, 16));
    TestThreads threads;
    if (round % 3 == 0)
      threads.start([&harness] {
        for (int64_t id = 100; id < 110; ++id) {
          harness.submit(id, {1, 2, 3}, 50);
          harness.engine().cancel(id - 1);
        }
      });
    for (int64_t id = 1; id <= random.between(0, 5); ++id) harness.submit(id, {1, 2, 3, 4}, 100);
    if (random.chance(0.5)) std::this_thread::sleep_for(std::chrono::microseconds(random.below(3000)));
    if (round % 4 == 0) threads.start([&harness] { harness.engine().requestStop(); });
    threads.join();
    if (random.chance(0.5)) harness.stop();
    harness.destroy();
    CHECK_EQ(harness.exits(), 1);
    CHECK(harness.failures().empty());
  }
}

TEST(engine, stops_while_it_loads) {
  EngineOptions options;
  options.spec = llamaSpec();
  options.spec.vocabSize = 4000000;  // 640 MB, if it came so far: loading takes a while
  logitsOf(options.spec).tied = true;
  options.maxSequenceTokens = 128;
  options.kvCachePages = 4;
  for (const int milliseconds : {0, 5, 20}) {
    Harness harness(options);
    harness.submit(1, {1}, 5);
    std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
    harness.stop();
    CHECK_EQ(harness.ready(), 0);
    CHECK(harness.failures().empty());
    CHECK_EQ(harness.exits(), 1);
    harness.submit(2, {1}, 5);  // too late, and harmless
    harness.engine().cancel(2);
  }
}

TEST(engine, reports_what_went_wrong_at_loading) {
  TinyModel model(llamaSpec(), DType::kF16, 93);
  EngineOptions options = optionsFor(model);
  options.plan->files[0].bytes += 1;
  Harness harness(options);
  harness.submit(1, {1, 2}, 5);
  harness.wait("the failure", [&harness] { return harness.exits() > 0 || !harness.failures().empty(); });
  harness.stop();
  CHECK_EQ(harness.ready(), 0);
  REQUIRE(harness.failures().size() == 1);
  CHECK_EQ(harness.failures()[0].code, "ERR_CHECKPOINT");
  CHECK(!harness.failures()[0].message.empty());
  CHECK_EQ(harness.exits(), 1);
}

// Weights that hold NaN: the sequence that meets them is refused, the others go on.
TEST(engine, logits_that_are_no_numbers) {
  const std::vector<int32_t> poisoned = {1, 2, 33}, sound = {1, 2, 3};
  TinyModel model(optSpec(), DType::kF32, 96);
  const std::vector<int32_t> expected = model.continuation(sound, 10);
  if (std::find(expected.begin(), expected.end(), 33) != expected.end()) SKIP("the model says the poisoned token");
  EngineOptions options = optionsFor(model);
  std::vector<uint8_t> bytes(static_cast<size_t>(model.spec().vocabSize * model.spec().embedding.width) * 4);
  const std::vector<float>& table = model.values("embed.tokens.weight");
  std::memcpy(bytes.data(), table.data(), bytes.size());
  const float nan = std::nanf("");
  std::memcpy(bytes.data() + 33 * model.spec().embedding.width * 4, &nan, 4);
  const TempFile file(bytes);
  options.plan->files.push_back(file.weightFile());
  for (WeightView& view : options.plan->weights)
    if (view.role == "embed.tokens.weight") {
      view.file = 1;
      view.byteOffset = 0;
    }
  // The head is another matrix here, or all logits of the token would be NaN for everyone.
  logitsOf(options.spec).tied = false;
  options.plan->weights.push_back(options.plan->weights.front());
  for (const WeightView& view : model.plan().weights)
    if (view.role == "embed.tokens.weight") options.plan->weights.back() = view;
  options.plan->weights.back().role = "head.weight";
  Harness harness(options);
  harness.submit(1, sound, 10);
  harness.submit(2, poisoned, 10);
  harness.submit(3, sound, 10);
  const Harness::Result refused = harness.result(2);
  CHECK_EQ(refused.code, "ERR_NUMERIC");
  CHECK(refused.tokens.empty());
  for (const int64_t id : {1, 3}) CHECK(harness.result(id).tokens == expected);
  harness.submit(4, poisoned, 0, {}, true);
  harness.submit(5, sound, 0, {}, true);
  const Harness::Result noLogits = harness.result(4);
  CHECK_EQ(noLogits.code, "ERR_NUMERIC");
  CHECK(noLogits.logits.empty());
  CHECK_EQ(harness.result(5).logits.size(), sound.size() * static_cast<size_t>(model.spec().vocabSize));
  // Scores of a prompt: of a row that is sound, and of one that is not.
  for (const int64_t newTokens : {0, 5}) {
    auto scored =
        std::make_unique<Sequence>(6 + newTokens, std::vector<int32_t>{1, 33, 2}, newTokens, SamplingParams{});
    scored->promptLogprobs = 2;
    harness.submit(std::move(scored));
    const Harness::Result noScores = harness.result(6 + newTokens);
    CHECK_EQ(noScores.code, "ERR_NUMERIC");
    CHECK_EQ(noScores.prompts, 0);
    CHECK(noScores.tokens.empty());
  }
  harness.stop();
  CHECK_EQ(harness.engine().stats().kvPagesFree, 64);
}

TEST(engine, estimates_are_what_it_takes) {
  for (const ModelSpec& spec : {llamaSpec(), optSpec(), expertsSpec()})
    for (const DType dtype : {DType::kF32, DType::kF16}) {
      const Note note(spec.family, dtypeName(dtype));
      TinyModel model(spec, DType::kF16, 94);
      EngineOptions options = optionsFor(model);
      options.dtype = dtype;
      const MemoryEstimate estimate = estimateMemory(options).at(0);
      Harness harness(options);
      harness.waitReady();
      const RankMemory memory = harness.engine().stats().memory.at(0);
      CHECK_EQ(memory.weightBytes, estimate.weightBytes);
      CHECK_EQ(memory.kvCacheBytes, 64 * estimate.kvPageBytes);
      CHECK_EQ(memory.activationBytes, estimate.activationBytes);
    }
}

TEST(engine, several_engines_at_once) {
  TinyModel model(llamaSpec(), DType::kF16, 95);
  std::vector<std::unique_ptr<Harness>> harnesses;
  for (int i = 0; i < 3; ++i) harnesses.push_back(std::make_unique<Harness>(optionsFor(model)));
  for (auto& harness : harnesses) harness->submit(1, {3, 1, 4, 1, 5}, 20);
  for (auto& harness : harnesses) CHECK(harness->result(1).tokens == harnesses[0]->result(1).tokens);
}

}  // namespace shardspeed::test
