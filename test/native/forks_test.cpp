#include <algorithm>
#include <set>

#include "check.h"
#include "engine_harness.h"
#include "runtime/scheduler.h"

// Samples of one prompt that share its pages.

namespace shardspeed::test {

static std::unique_ptr<Sequence> sampleOf(int64_t id, const std::vector<int32_t>& prompt, int64_t newTokens,
                                          SamplingParams params = {}) {
  params.seed = static_cast<uint64_t>(id);
  return std::make_unique<Sequence>(id, prompt, newTokens, std::move(params));
}

// With the ids from `id` on.
static std::unique_ptr<Sequence> samplesOf(int64_t id, int64_t count, const std::vector<int32_t>& prompt,
                                           int64_t newTokens, const SamplingParams& params = {}) {
  auto first = sampleOf(id, prompt, newTokens, params);
  for (int64_t i = 1; i < count; ++i) first->forks.push_back(sampleOf(id + i, prompt, newTokens, params));
  return first;
}

static SchedulerLimits limitsOf(int64_t batch, int64_t pages) {
  SchedulerLimits limits;
  limits.maxBatchTokens = batch;
  limits.pages = pages;
  return limits;
}

static SamplingParams warm() {
  SamplingParams params;
  params.temperature = 5;
  params.logprobs = 1;
  params.repetitionPenalty = 1.1f;
  return params;
}

TEST(forks, samples_are_those_of_requests_of_their_own) {
  ModelSpec dynamic = llamaSpec();
  makeDynamic(dynamic.rotaryTables[0], 40, 2);
  for (const ModelSpec& spec : {llamaSpec(), optSpec(), dynamic}) {
    TinyModel model(spec, DType::kF32, 80);
    Random random(90);
    for (const int64_t length : {1, 15, 16, 17, 30, 33}) {
      const std::vector<int32_t> prompt = promptOf(random, spec, length);
      constexpr int64_t kCount = 4, kTokens = 20;
      std::vector<Harness::Result> expected;
      Harness alone(optionsFor(model));
      for (int64_t id = 1; id <= kCount; ++id) {
        alone.submit(sampleOf(id, prompt, kTokens, warm()));
        expected.push_back(alone.result(id));
      }
      CHECK(expected[0].tokens != expected[1].tokens);
      for (const int64_t batch : {1, 3, 64})
        for (const int64_t pages : {4, 5, 9, 64}) {
          if (kReduced && batch != 3) continue;
          const Note note(spec.family, "length", length, "batch", batch, "pages", pages);
          Harness harness(optionsFor(model, 2, batch, pages));
          harness.submit(samplesOf(1, kCount, prompt, kTokens, warm()));
          for (int64_t id = 1; id <= kCount; ++id) {
            const Harness::Result found = harness.result(id);
            const Harness::Result& wanted = expected[static_cast<size_t>(id - 1)];
            CHECK(found.tokens == wanted.tokens);
            CHECK(found.logprobs == wanted.logprobs);
          }
          harness.stop();
          CHECK_EQ(harness.engine().stats().kvPagesFree, pages);
          CHECK_EQ(harness.engine().stats().promptTokens, length);
        }
    }
  }
}

// Arrivals and cancellations at random, of samples that have begun and that have not.
TEST(forks, random_runs_lose_nothing) {
  TinyModel model(llamaSpec(), DType::kF32, 91);
  int64_t preemptions = 0;
  for (uint64_t seed = 1; seed <= (kReduced ? 6 : 30); ++seed) {
    Random random(seed);
    const int64_t pages = random.between(5, 20);
    const Note note("seed", seed, "pages", pages);
    Harness alone(optionsFor(model));
    Harness harness(optionsFor(model, 2, random.between(1, 40), pages));
    std::set<int64_t> cancelled;
    int64_t last = 0;
    for (int request = 0; request < 6; ++request) {
      const std::vector<int32_t> prompt = promptOf(random, model.spec(), random.between(1, 45));
      const int64_t count = random.between(1, 9), tokens = random.between(1, 30);
      for (int64_t id = last + 1; id <= last + count; ++id) alone.submit(sampleOf(id, prompt, tokens, warm()));
      harness.submit(samplesOf(last + 1, count, prompt, tokens, warm()));
      last += count;
      while (random.chance(0.5)) {
        const int64_t id = random.between(1, last);
        cancelled.insert(id);
        if (const int64_t begun = random.between(1, last); !cancelled.contains(begun)) harness.waitTokens(begun, 1);
        harness.engine().cancel(id);
      }
    }
    for (int64_t id = 1; id <= last; ++id) {
      const Harness::Result found = harness.result(id), wanted = alone.result(id);
      const Note which("sample", id);
      if (cancelled.contains(id) && found.reason == FinishReason::kCancelled) {
        CHECK(std::equal(found.tokens.begin(), found.tokens.end(), wanted.tokens.begin()));
        continue;
      }
      CHECK(found.tokens == wanted.tokens);
    }
    harness.stop();
    CHECK_EQ(harness.engine().stats().kvPagesFree, pages);
    CHECK_EQ(harness.engine().stats().running + harness.engine().stats().waiting, 0);
    preemptions += harness.engine().stats().preemptions;
  }
  CHECK(preemptions > 0);
}

TEST(forks, a_prompt_is_computed_once_and_its_full_pages_are_shared) {
  Scheduler scheduler(limitsOf(64, 20));
  scheduler.add(samplesOf(1, 5, std::vector<int32_t>(40, 7), 10));
  CHECK_EQ(scheduler.waitingCount(), 5);
  ScheduledStep step;
  scheduler.next(step);
  CHECK_EQ(step.step.rows, 40);
  CHECK(step.step.copies.empty());
  CHECK_EQ(scheduler.waitingCount(), 4);
  CHECK_EQ(scheduler.freePages(), 17);
  scheduler.next(step);
  CHECK_EQ(step.step.rows, 4);
  CHECK_EQ(scheduler.runningCount(), 5);
  CHECK_EQ(scheduler.waitingCount(), 0);
  CHECK_EQ(scheduler.freePages(), 13);
  REQUIRE(step.step.copies.size() == 4);
  for (size_t i = 0; i < 4; ++i) {
    const SequenceSlice& slice = step.step.sequences[i];
    CHECK_EQ(slice.contextLength, 39);
    CHECK(!slice.generated);
    CHECK_EQ(slice.pages[0], step.step.sequences[0].pages[0]);
    CHECK_EQ(slice.pages[1], step.step.sequences[0].pages[1]);
    CHECK_EQ(slice.pages[2], step.step.copies[i].to);
    CHECK_EQ(step.step.copies[i].from, step.step.copies[0].from);
  }
  scheduler.next(step);
  CHECK(step.step.copies.empty());
  for (int64_t id = 1; id <= 5; ++id) scheduler.remove(id);
  CHECK(scheduler.idle());
  CHECK_EQ(scheduler.freePages(), 20);
}

TEST(forks, nothing_is_copied_of_a_prompt_that_fills_its_pages_but_for_one_token) {
  Scheduler scheduler(limitsOf(64, 20));
  scheduler.add(samplesOf(1, 3, std::vector<int32_t>(33, 7), 10));
  ScheduledStep step;
  scheduler.next(step);
  scheduler.next(step);
  CHECK(step.step.copies.empty());
  CHECK_EQ(step.step.rows, 2);
  CHECK_EQ(scheduler.freePages(), 15);
}

TEST(forks, the_next_sample_takes_the_place_of_the_first) {
  Scheduler scheduler(limitsOf(16, 20));
  scheduler.add(samplesOf(1, 3, std::vector<int32_t>(40, 7), 10));
  scheduler.add(sampleOf(9, std::vector<int32_t>(8, 3), 1));
  ScheduledStep step;
  scheduler.next(step);
  CHECK(scheduler.remove(1) != nullptr);
  CHECK(scheduler.remove(1) == nullptr);
  scheduler.next(step);  // 15 tokens of the page have been copied, or are computed again
  REQUIRE(!step.slices.empty());
  CHECK_EQ(step.slices[0].sequence->id, 2);
  CHECK_EQ(step.step.sequences[0].contextLength, 16);
  CHECK(scheduler.remove(3) != nullptr);  // has not begun
  CHECK_EQ(scheduler.waitingCount(), 1);
  CHECK(scheduler.remove(2) != nullptr);
  CHECK(scheduler.remove(9) != nullptr);
  CHECK(scheduler.idle());
  CHECK_EQ(scheduler.freePages(), 20);
}

TEST(forks, samples_that_wait_begin_as_soon_as_there_is_room_for_one) {
  Scheduler scheduler(limitsOf(3, 20));
  scheduler.add(samplesOf(1, 8, {1, 2}, 10));
  ScheduledStep step;
  scheduler.next(step);
  for (int64_t id = 1; id <= 8; ++id) {
    scheduler.next(step);
    CHECK_EQ(scheduler.runningCount(), std::min<int64_t>(3, 9 - id));
    scheduler.remove(id);
  }
  CHECK_EQ(scheduler.freePages(), 20);
}

// The base of a dynamic rotary table changes with a sample's own length.
TEST(forks, samples_share_nothing_where_positions_depend_on_their_length) {
  for (const int64_t newTokens : {10, 11}) {
    SchedulerLimits limits = limitsOf(64, 20);
    limits.dynamicOriginalPositions = 50;
    Scheduler scheduler(limits);
    scheduler.add(samplesOf(1, 2, std::vector<int32_t>(40, 7), newTokens));
    CHECK_EQ(scheduler.waitingCount(), 2);
    ScheduledStep step;
    scheduler.next(step);
    CHECK_EQ(step.step.rows, newTokens == 10 ? 40 : 64);
  }
}

}  // namespace shardspeed::test
