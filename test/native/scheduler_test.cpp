#include "runtime/scheduler.h"

#include <algorithm>
#include <functional>
#include <map>
#include <string>

#include "check.h"
#include "random.h"

namespace shardspeed::test {

// Stands in for the engine and for the KV cache: remembers what every slot of every page holds, and checks at each step
// that the positions a slice sees hold its own sequence's tokens, turned by the base that counts now, and behind the
// same text with the same salt, whoever wrote them.
class Simulation {
 public:
  explicit Simulation(SchedulerLimits schedulerLimits)
      : limits_(schedulerLimits), scheduler_(limits_), slots_(static_cast<size_t>(limits_.pages * kPageTokens)) {}

  // Tokens that a sequence may have at most, new ones included.
  int64_t mostTokens() const { return limits_.pages * kPageTokens; }

  void submit(int64_t promptLength, int64_t newTokens, bool forward = false) {
    const int64_t id = lastId_ + 1;
    std::vector<int32_t> prompt;
    // Some begin alike, for a while or to their end, and some go on alike behind other beginnings.
    const int64_t alike = begins_ ? begins_->chance(0.7) ? begins_->between(0, 2 * promptLength) : 0 : 0;
    const int64_t text = begins_ ? begins_->between(0, 1) : 0;
    const int64_t own = begins_ ? 10 + id % 3 : id;
    for (int64_t i = 0; i < promptLength; ++i)
      prompt.push_back(static_cast<int32_t>(((i < alike ? text : own) * 31 + i) % 997));
    auto sequence = std::make_unique<Sequence>(id, std::move(prompt), newTokens, SamplingParams{});
    if (begins_) {
      sequence->cacheSalt = begins_->chance(0.2) ? "a" : "";
      if (begins_->chance(0.1)) sequence->promptLogprobs = 0;
    }
    if (forward) sequence->wanted = Wanted::kHead;
    submit(std::move(sequence));
  }

  void submit(std::unique_ptr<Sequence> sequence) {
    lastId_ = sequence->id;
    alive_[sequence->id] = sequence.get();
    scheduler_.add(std::move(sequence));
  }

  void cancel(int64_t id) {
    const bool known = alive_.erase(id) > 0;
    const auto removed = scheduler_.remove(id);
    CHECK_EQ(removed != nullptr, known);
    if (removed) {
      CHECK(removed->pages.empty());
      CHECK_EQ(removed->id, id);
    }
    checkPages();
  }

  void cancelSome(Random& random) {
    if (lastId_ > 0) cancel(random.between(std::max<int64_t>(1, lastId_ - 6), lastId_ + 1));
  }

  void step() {
    std::vector<int64_t> decoding;
    for (const auto& [id, sequence] : alive_)
      if (running(*sequence) && sequence->pending() == 1) decoding.push_back(id);
    scheduler_.next(scheduled_);
    const Step& step = scheduled_.step;
    if (!alive_.empty()) CHECK(step.rows > 0);  // work that fits alone always moves on
    CHECK(step.rows <= limits_.maxBatchTokens);
    CHECK_EQ(step.rows, scheduled_.tokenIds.size());
    CHECK_EQ(step.sequences.size(), scheduled_.slices.size());
    CHECK(step.tokenIds == scheduled_.tokenIds.data());
    checkPages();
    checkOrder();
    int64_t row = 0, follows = 0;
    for (size_t i = 0; i < step.sequences.size(); ++i) {
      const Sequence* sequence = scheduled_.slices[i].sequence;
      follows = i > 0 && scheduled_.slices[i - 1].sequence == sequence ? follows + 1 : 0;
      CHECK_EQ(step.sequences[i].follows, follows);
      if (follows > 0 && scheduled_.slices[i].drafted == 0) ++againRows_;
      const bool isLast = i + 1 == step.sequences.size() || scheduled_.slices[i + 1].sequence != sequence;
      row = checkSlice(step.sequences[i], scheduled_.slices[i], row, isLast);
    }
    CHECK_EQ(row, step.rows);
    for (const int64_t id : decoding) checkDecodes(id);
    for (const ScheduledSlice& slice : scheduled_.slices)
      if (limits_.wholeSequences) CHECK_EQ(slice.sequence->pending(), 0);
    // The cache is written before it is read: all rows of a step first.
    std::vector<int64_t> finished;
    std::map<Sequence*, int64_t> drafted;
    for (const ScheduledSlice& slice : scheduled_.slices) drafted[slice.sequence] += slice.drafted;
    for (const auto& [sequence, count] : drafted) {
      if (sequence->pending() > 0) {
        scheduler_.share(*sequence);
        continue;
      }
      draftRows_ += count;
      if (sequence->wanted != Wanted::kTokens || generate(*sequence, count)) finished.push_back(sequence->id);
      scheduler_.share(*sequence);
    }
    for (const int64_t id : finished) {
      cancel(id);
      ++finished_;
    }
    ++steps_;
  }

  void drain() {
    for (int64_t patience = 200000; !scheduler_.idle(); --patience) {
      REQUIRE(patience > 0);
      step();
    }
    CHECK(alive_.empty());
    CHECK_EQ(scheduler_.freePages(), limits_.pages);
    CHECK_EQ(scheduler_.runningCount() + scheduler_.waitingCount(), 0);
  }

  // From now on sequences have drafts of up to so many tokens, of which some are accepted.
  void draft(Random& random, int64_t most) {
    random_ = &random;
    mostDrafted_ = most;
  }

  // From now on sequences begin alike.
  void repeatPrompts(Random& random) { begins_ = &random; }

  int64_t draftRows() const { return draftRows_; }
  int64_t againRows() const { return againRows_; }  // generated ones, computed again behind others of the same step
  Scheduler& scheduler() { return scheduler_; }
  const ScheduledStep& scheduled() const { return scheduled_; }
  int64_t finished() const { return finished_; }
  int64_t steps() const { return steps_; }
  int64_t mostEntries() const { return mostEntries_; }  // of page tables, at once
  const Sequence& sequence(int64_t id) const { return *alive_.at(id); }

 private:
  struct Slot {
    uint64_t text = 0;  // hash of the salt and of all tokens up to this one
    int64_t base = -1;  // length that the rotary base follows, 0 = the fixed one
    bool generated = false;
    int64_t promptClass = 0;
    int64_t step = -1;
    int64_t sequence = -1;  // who wrote it
  };

  // A part of the draft, then one token more. Whether that was the last one.
  bool generate(Sequence& sequence, int64_t drafted) {
    int64_t& count = generated_[sequence.id];
    const int64_t accepted = random_ ? std::min(random_->between(0, drafted), sequence.maxNewTokens - count - 1) : 0;
    for (int64_t i = 0; i < accepted; ++i) sequence.tokens.push_back(sequence.draft[static_cast<size_t>(i)]);
    sequence.computed += accepted;
    sequence.tokens.push_back(static_cast<int32_t>(sequence.length() % 501));
    count += accepted + 1;
    sequence.draft.clear();
    const int64_t left = sequence.maxNewTokens - count - 1;
    if (random_ && left > 0)
      for (int64_t i = random_->between(0, std::min(left, mostDrafted_)); i-- > 0;)
        sequence.draft.push_back(static_cast<int32_t>(random_->between(0, 996)));
    return count == sequence.maxNewTokens;
  }

  static bool running(const Sequence& sequence) { return !sequence.pages.empty(); }

  int64_t baseOf(int64_t length) const {
    return limits_.dynamicOriginalPositions > 0 && length > limits_.dynamicOriginalPositions ? length : 0;
  }

  int64_t classOf(const Sequence& sequence) const {
    int64_t count = 0;
    if (sequence.wanted == Wanted::kTokens)
      for (const int64_t limit : limits_.promptLimits) count += sequence.promptLength <= limit;
    return count;
  }

  void checkPages() {
    holders_.assign(static_cast<size_t>(limits_.pages), 0);
    int64_t held = 0, entries = 0;
    for (const auto& [id, sequence] : alive_)
      for (const int32_t page : sequence->pages) {
        REQUIRE(page >= 0 && page < limits_.pages);
        held += holders_[static_cast<size_t>(page)]++ == 0;
        ++entries;
      }
    CHECK_EQ(held + scheduler_.freePages(), limits_.pages);
    CHECK(scheduler_.findablePages() <= limits_.pages);
    if (!limits_.prefixCache) CHECK_EQ(entries + scheduler_.findablePages(), held);
    CHECK(entries <= limits_.pages * kTableEntriesPerPage);
    mostEntries_ = std::max(mostEntries_, entries);
  }

  // Who came first runs first: nobody runs while someone older waits.
  void checkOrder() {
    // What runs may have no pages for a while: those that it shared, when the base changed.
    const bool isTold = !limits_.prefixCache || limits_.dynamicOriginalPositions == 0;
    bool waiting = false;
    int64_t count = 0;
    for (const auto& [id, sequence] : alive_) {
      if (isTold && running(*sequence)) CHECK(!waiting);
      waiting = waiting || !running(*sequence);
      count += running(*sequence);
    }
    CHECK(count <= scheduler_.runningCount());
    if (isTold) CHECK_EQ(count, scheduler_.runningCount());
    CHECK_EQ(static_cast<int64_t>(alive_.size()), scheduler_.runningCount() + scheduler_.waitingCount());
  }

  // A sequence that decodes gets its row in each step, unless there was no page for it.
  void checkDecodes(int64_t id) {
    const auto found = alive_.find(id);
    if (found == alive_.end() || !running(*found->second) || limits_.dynamicOriginalPositions > 0) return;
    const bool inStep = std::any_of(scheduled_.slices.begin(), scheduled_.slices.end(),
                                    [&](const ScheduledSlice& slice) { return slice.sequence == found->second; });
    const bool needsPage = found->second->computed % kPageTokens == 0;
    CHECK(inStep || needsPage);
  }

  // isLast: of its sequence in this step.
  int64_t checkSlice(const SequenceSlice& slice, const ScheduledSlice& use, int64_t row, bool isLast) {
    const Sequence& sequence = *use.sequence;
    const Note note("step", steps_, "sequence", sequence.id, "context", slice.contextLength, "rows", slice.rowCount);
    CHECK_EQ(slice.firstRow, row);
    CHECK(slice.rowCount > 0);
    CHECK_EQ(slice.totalLength, sequence.length() + use.skipped + use.drafted);
    const int64_t end = slice.contextLength + slice.rowCount;
    if (use.skipped + use.drafted > 0) CHECK_EQ(end, slice.totalLength);
    if (limits_.rowsApart && use.drafted > 0) CHECK_EQ(slice.rowCount, 1);
    std::vector<int32_t> tokens = sequence.tokens;
    const auto draft = sequence.draft.begin();
    tokens.insert(tokens.end(), draft, draft + use.skipped + use.drafted);
    CHECK_EQ(slice.generated, slice.rowCount == 1 && slice.contextLength >= sequence.readTokens);
    // Also what has to be computed again.
    if (limits_.rowsApart) CHECK_EQ(slice.generated, slice.contextLength >= sequence.readTokens);
    CHECK_EQ(slice.promptClass, classOf(sequence));
    if (isLast) CHECK_EQ(sequence.computed, std::min(end - use.drafted, sequence.length()));
    CHECK(slice.pages == sequence.pages.data());
    REQUIRE(static_cast<int64_t>(sequence.pages.size()) * kPageTokens >= end);
    const int64_t base = baseOf(slice.totalLength);
    uint64_t text = std::hash<std::string>{}(sequence.cacheSalt);
    for (int64_t position = 0; position < end; ++position) {
      const int32_t page = slice.pages[position / kPageTokens];
      Slot& slot = slots_[static_cast<size_t>(page * kPageTokens + position % kPageTokens)];
      const int32_t token = tokens[static_cast<size_t>(position)];
      text = (text ^ static_cast<uint64_t>(token)) * 0x100000001b3ull + 1;
      if (position >= slice.contextLength) {
        const auto at = static_cast<size_t>(row + position - slice.contextLength);
        CHECK_EQ(scheduled_.tokenIds[at], token);
        CHECK_EQ(holders_[static_cast<size_t>(page)], 1);
        slot = {text, base, slice.generated, slice.promptClass, steps_, sequence.id};
      } else {
        CHECK(slot.text == text && slot.base == base);
        // Others' rows of the same step may not be written yet.
        CHECK(slot.step < steps_ || slot.sequence == sequence.id);
        if (limits_.rowsApart) CHECK_EQ(slot.generated, position >= sequence.readTokens);
        CHECK_EQ(slot.promptClass, slice.promptClass);
      }
    }
    return row + slice.rowCount;
  }

  SchedulerLimits limits_;
  Scheduler scheduler_;
  ScheduledStep scheduled_;
  std::vector<Slot> slots_;
  std::vector<int> holders_;            // by page
  std::map<int64_t, Sequence*> alive_;  // in the order of their coming
  std::map<int64_t, int64_t> generated_;
  int64_t lastId_ = 0;
  int64_t finished_ = 0;
  int64_t steps_ = 0;
  Random* random_ = nullptr;
  int64_t mostDrafted_ = 0;
  int64_t draftRows_ = 0;
  int64_t againRows_ = 0;
  Random* begins_ = nullptr;
  int64_t mostEntries_ = 0;
};

static SchedulerLimits limitsOf(int64_t batch, int64_t pages, int64_t dynamic = 0) {
  SchedulerLimits limits;
  limits.maxBatchTokens = batch;
  limits.pages = pages;
  limits.dynamicOriginalPositions = dynamic;
  return limits;
}

struct RunKind {
  int64_t dynamic = 0;
  int64_t mostDrafted = 0;
  bool prefixCache = false;
};

struct RunCounts {
  int64_t preemptions = 0;
  int64_t draftRows = 0;
  int64_t againRows = 0;
  int64_t hits = 0;
  int64_t sharedTables = 0;  // runs whose page tables together were longer than the cache
};

// Arrivals, cancellations and steps in random order, then all that is left runs to its end.
static void randomRun(uint64_t seed, const RunKind& kind, RunCounts& counts) {
  Random random(seed);
  const int64_t pages = random.between(1, 12);
  SchedulerLimits limits = limitsOf(random.between(1, 40), pages, kind.dynamic);
  limits.prefixCache = kind.prefixCache;
  if (kind.mostDrafted > 0 || kind.prefixCache) limits.rowsApart = random.chance(0.5);
  if (limits.rowsApart && seed % 4 == 0) limits.promptLimits = {static_cast<int64_t>(17 + seed % 44), 16};
  Simulation simulation(limits);
  if (kind.mostDrafted > 0) simulation.draft(random, kind.mostDrafted);
  if (kind.prefixCache) simulation.repeatPrompts(random);
  const double arrival = random.uniform(), cancellation = random.uniform() * 0.2;
  for (int64_t event = 0; event < 60; ++event) {
    if (random.chance(arrival)) {
      const int64_t total = random.between(2, simulation.mostTokens());
      const int64_t prompt = random.chance(0.3) ? random.between(1, total - 1) : random.between(1, (total + 1) / 2);
      if (random.chance(0.15))
        simulation.submit(total, 0, true);
      else
        simulation.submit(prompt, std::min<int64_t>(total - prompt, random.between(1, 40)));
    }
    if (random.chance(cancellation)) simulation.cancelSome(random);
    if (random.chance(0.8)) simulation.step();
  }
  simulation.drain();
  counts.preemptions += simulation.scheduler().preemptions();
  counts.draftRows += simulation.draftRows();
  counts.againRows += simulation.againRows();
  counts.hits += simulation.scheduler().prefixHits();
  counts.sharedTables += simulation.mostEntries() > pages;
}

TEST(scheduler, random_runs_lose_nothing) {
  RunCounts counts;
  for (uint64_t seed = 1; seed <= (kReduced ? 60 : 400); ++seed) {
    const Note note("seed", seed);
    randomRun(seed, {}, counts);
  }
  CHECK(counts.preemptions > 100);  // else the runs do not show what they are for
  CHECK_EQ(counts.hits, 0);
}

TEST(scheduler, random_runs_that_share_pages) {
  RunCounts counts;
  for (uint64_t seed = 1; seed <= (kReduced ? 80 : 600); ++seed) {
    const Note note("seed", seed);
    randomRun(seed, {seed % 4 == 0 ? 40 : 0, seed % 3 == 0 ? 8 : 0, true}, counts);
  }
  CHECK(counts.preemptions > 100);
  CHECK(counts.draftRows > 100);
  CHECK(counts.againRows > 100);
  CHECK(counts.hits > 1000);
  CHECK(counts.sharedTables > 10);
}

TEST(scheduler, random_runs_with_drafts) {
  RunCounts counts;
  for (uint64_t seed = 1; seed <= (kReduced ? 60 : 400); ++seed) {
    const Note note("seed", seed);
    randomRun(seed, {seed % 3 == 0 ? 20 : 0, 8}, counts);
  }
  CHECK(counts.preemptions > 50);
  CHECK(counts.draftRows > 1000);
}

TEST(scheduler, random_runs_with_a_dynamic_rotary_base) {
  RunCounts counts;
  for (uint64_t seed = 1; seed <= (kReduced ? 30 : 150); ++seed) {
    const Note note("seed", seed);
    randomRun(seed, {20}, counts);
  }
}

TEST(scheduler, long_prompts_come_in_chunks) {
  Simulation simulation(limitsOf(8, 10));
  simulation.submit(37, 3);
  for (const int64_t rows : {8, 8, 8, 8, 5, 1, 1}) {
    simulation.step();
    CHECK_EQ(simulation.scheduled().step.rows, rows);
  }
  CHECK(simulation.scheduler().idle());
}

// A chunk of one row is a chunk: backends compute generated rows in another way.
TEST(scheduler, the_last_token_of_a_prompt_alone_is_not_generated) {
  Simulation simulation(limitsOf(8, 10));
  simulation.submit(9, 2);
  simulation.submit(1, 2);
  const std::vector<std::vector<bool>> expected = {{false}, {false, false}, {true, true}};
  for (const std::vector<bool>& generated : expected) {
    simulation.step();
    std::vector<bool> found;
    for (const SequenceSlice& slice : simulation.scheduled().step.sequences) found.push_back(slice.generated);
    CHECK(found == generated);
  }
}

TEST(scheduler, sequences_that_decode_come_before_prompts) {
  Simulation simulation(limitsOf(4, 20));
  simulation.submit(3, 30);
  simulation.step();
  simulation.submit(20, 1);
  for (int i = 0; i < 5; ++i) {
    simulation.step();
    REQUIRE(simulation.scheduled().slices.size() == 2);
    CHECK_EQ(simulation.scheduled().slices[0].sequence->id, 1);
    CHECK_EQ(simulation.scheduled().step.sequences[0].rowCount, 1);
    CHECK_EQ(simulation.scheduled().step.sequences[1].rowCount, 3);
  }
}

TEST(scheduler, waits_for_pages_in_order) {
  Simulation simulation(limitsOf(512, 4));
  simulation.submit(20, 2);  // two pages
  simulation.submit(40, 1);  // three: waits
  simulation.submit(5, 1);   // would fit, but came later
  simulation.step();
  CHECK_EQ(simulation.scheduler().runningCount(), 1);
  CHECK_EQ(simulation.scheduler().waitingCount(), 2);
  CHECK_EQ(simulation.scheduler().freePages(), 2);
  simulation.cancel(2);
  simulation.step();
  CHECK_EQ(simulation.finished(), 2);
}

TEST(scheduler, the_youngest_gives_its_pages_back) {
  Simulation simulation(limitsOf(512, 4));
  simulation.submit(16, 30);
  simulation.submit(16, 30);
  simulation.drain();
  CHECK(simulation.scheduler().preemptions() > 0);
  CHECK_EQ(simulation.finished(), 2);
}

TEST(scheduler, a_dynamic_base_means_computing_again) {
  Simulation simulation(limitsOf(512, 4, 18));
  simulation.submit(16, 6);
  for (const int64_t rows : {16, 1, 1, 19, 20, 21}) {
    simulation.step();
    CHECK_EQ(simulation.scheduled().step.rows, rows);
  }
  CHECK_EQ(simulation.finished(), 1);
}

static SchedulerLimits sharingLimits(int64_t batch, int64_t pages) {
  SchedulerLimits limits = limitsOf(batch, pages);
  limits.prefixCache = true;
  return limits;
}

static std::unique_ptr<Sequence> sequenceOf(int64_t id, int64_t tokens, int64_t newTokens) {
  std::vector<int32_t> prompt;
  for (int64_t i = 0; i < tokens; ++i) prompt.push_back(static_cast<int32_t>(i));
  return std::make_unique<Sequence>(id, std::move(prompt), newTokens, SamplingParams{});
}

TEST(scheduler, the_last_token_of_a_prompt_is_computed_though_its_page_is_there) {
  for (const auto& [tokens, found] : {std::pair<int64_t, int64_t>{32, 16}, {33, 32}, {16, 0}, {15, 0}}) {
    Simulation simulation(sharingLimits(64, 8));
    simulation.submit(sequenceOf(1, 40, 1));
    simulation.drain();
    CHECK_EQ(simulation.scheduler().findablePages(), 2);
    simulation.submit(sequenceOf(2, tokens, 1));
    simulation.step();
    CHECK_EQ(simulation.scheduled().step.sequences[0].contextLength, found);
    CHECK_EQ(simulation.scheduled().step.rows, tokens - found);
    CHECK_EQ(simulation.scheduler().prefixQueries(), 40 + tokens);
    CHECK_EQ(simulation.scheduler().prefixHits(), found);
  }
}

TEST(scheduler, a_page_is_shared_only_behind_the_step_that_computes_it) {
  Simulation simulation(sharingLimits(64, 8));
  simulation.submit(sequenceOf(1, 17, 2));
  simulation.submit(sequenceOf(2, 17, 2));
  simulation.step();
  CHECK_EQ(simulation.scheduler().prefixHits(), 0);
  CHECK_EQ(simulation.scheduled().step.rows, 34);
  simulation.submit(sequenceOf(3, 17, 2));
  simulation.step();
  CHECK_EQ(simulation.scheduler().prefixHits(), 16);
  simulation.drain();
}

// Three sequences of two pages each in four pages: without the page that they share there were room for two.
TEST(scheduler, shared_pages_are_held_once) {
  Simulation simulation(sharingLimits(64, 4));
  simulation.submit(sequenceOf(1, 17, 9));
  simulation.step();
  simulation.submit(sequenceOf(2, 17, 9));
  simulation.submit(sequenceOf(3, 17, 9));
  simulation.step();
  CHECK_EQ(simulation.scheduler().runningCount(), 3);
  CHECK_EQ(simulation.scheduler().freePages(), 0);
  CHECK_EQ(simulation.mostEntries(), 6);
  simulation.drain();
}

// 50 pages that all share, and one of its own for each: pages for 50 sequences, and room for the tables of 31.
TEST(scheduler, page_tables_are_bounded) {
  Simulation simulation(sharingLimits(512, 100));
  simulation.submit(sequenceOf(1, 801, 1));
  simulation.drain();
  for (int64_t id = 2; id <= 61; ++id) simulation.submit(sequenceOf(id, 801, 3));
  simulation.step();
  CHECK_EQ(simulation.scheduler().runningCount(), 100 * kTableEntriesPerPage / 51);
  simulation.drain();
  CHECK_EQ(simulation.finished(), 61);
  CHECK(simulation.mostEntries() > 30 * 51);
}

// What is found is no longer free: a sequence that needs more than is left waits, and holds nothing meanwhile.
TEST(scheduler, found_pages_count_before_those_that_are_missing) {
  Simulation simulation(sharingLimits(64, 5));
  simulation.submit(sequenceOf(1, 33, 1));
  simulation.drain();
  auto other = sequenceOf(2, 20, 9);
  other->cacheSalt = "other";
  simulation.submit(std::move(other));
  simulation.step();
  simulation.submit(sequenceOf(3, 60, 1));  // two found, two to be taken of one
  simulation.step();
  CHECK_EQ(simulation.scheduler().runningCount(), 1);
  CHECK_EQ(simulation.scheduler().freePages(), 3);
  CHECK_EQ(simulation.scheduler().prefixHits(), 0);
  simulation.drain();
  CHECK_EQ(simulation.scheduler().prefixHits(), 32);
}

TEST(scheduler, a_sequence_that_was_preempted_finds_its_pages_and_is_counted_once) {
  Simulation simulation(sharingLimits(64, 5));
  simulation.submit(20, 40);
  simulation.submit(20, 40);
  simulation.drain();
  CHECK(simulation.scheduler().preemptions() > 0);
  CHECK_EQ(simulation.scheduler().prefixQueries(), 40);
  CHECK_EQ(simulation.scheduler().prefixHits(), 0);
}

TEST(scheduler, salts_and_sequences_that_want_all_computed_find_nothing) {
  Simulation simulation(sharingLimits(64, 12));
  simulation.submit(sequenceOf(1, 40, 1));
  simulation.drain();
  auto salted = sequenceOf(2, 40, 1);
  salted->cacheSalt = "salt";
  auto computed = sequenceOf(3, 40, 1);
  computed->promptLogprobs = 0;
  auto forward = sequenceOf(4, 40, 0);
  forward->wanted = Wanted::kHead;
  for (auto* sequence : {&salted, &computed, &forward}) {
    simulation.submit(std::move(*sequence));
    simulation.step();
    CHECK_EQ(simulation.scheduled().step.rows, 40);
  }
  CHECK_EQ(simulation.scheduler().prefixQueries(), 80);
  CHECK_EQ(simulation.scheduler().prefixHits(), 0);
}

// A prompt's class is that of its length, whatever is found of it, and whatever part of it comes in a step.
TEST(scheduler, prompts_of_other_classes_find_nothing) {
  SchedulerLimits limits = sharingLimits(30, 40);
  limits.rowsApart = true;
  limits.promptLimits = {64, 40};
  Simulation simulation(limits);
  const auto ask = [&](int64_t id, int64_t tokens, int64_t promptClass) {
    const Note note("tokens", tokens);
    const int64_t hits = simulation.scheduler().prefixHits();
    simulation.submit(sequenceOf(id, tokens, 3));
    while (!simulation.scheduler().idle()) {
      simulation.step();
      if (!simulation.scheduled().step.sequences.empty())
        CHECK_EQ(simulation.scheduled().step.sequences[0].promptClass, promptClass);
    }
    return simulation.scheduler().prefixHits() - hits;
  };
  CHECK_EQ(ask(1, 40, 2), 0);
  CHECK_EQ(ask(2, 41, 1), 0);
  CHECK_EQ(ask(3, 64, 1), 32);
  CHECK_EQ(ask(4, 65, 0), 0);
  CHECK_EQ(ask(5, 90, 0), 64);
  CHECK_EQ(ask(6, 35, 2), 32);
}

TEST(scheduler, an_idle_scheduler_gives_empty_steps) {
  Simulation simulation(limitsOf(16, 2));
  CHECK(simulation.scheduler().idle());
  simulation.step();
  CHECK_EQ(simulation.scheduled().step.rows, 0);
  simulation.cancel(7);
  simulation.submit(3, 1);
  simulation.cancel(1);
  CHECK(simulation.scheduler().idle());
  simulation.step();
  CHECK_EQ(simulation.scheduled().step.rows, 0);
}

TEST(scheduler, sequences_that_see_later_tokens_are_in_one_step) {
  Random random(61);
  SchedulerLimits limits{40, 30, 0, {}, true, true, false, true, {10}};
  Simulation simulation(limits);
  for (int i = 0; i < 100; ++i) simulation.submit(random.between(1, 40), 0, true);
  simulation.drain();
}

// The scheduler of a step that is under way, and of the next one: the tokens that the first one chooses are not known.
struct Ahead {
  explicit Ahead(SchedulerLimits limits) : scheduler(limits) {}
  Sequence& submit(int64_t id, int64_t prompt) {
    auto sequence =
        std::make_unique<Sequence>(id, std::vector<int32_t>(static_cast<size_t>(prompt), 1), 40, SamplingParams{});
    Sequence& added = *sequence;
    scheduler.add(std::move(sequence));
    return added;
  }
  static void choose(Sequence& sequence, int64_t index) { sequence.tokens.push_back(chosenToken(index)); }
  Scheduler scheduler;
  ScheduledStep step;
};

TEST(scheduler, the_next_rows_are_told_ahead) {
  SchedulerLimits limits = limitsOf(64, 8);
  limits.rowsApart = true;
  Ahead ahead(limits);
  Sequence &first = ahead.submit(1, 3), &second = ahead.submit(2, 16), &last = ahead.submit(3, 5);
  ahead.scheduler.next(ahead.step);
  CHECK(!ahead.scheduler.canAdvance());  // no sequence goes on
  Ahead::choose(first, 0);
  Ahead::choose(second, 1);
  REQUIRE(ahead.scheduler.canAdvance());
  ahead.scheduler.advance(ahead.step);
  CHECK_EQ(ahead.step.step.rows, 2);
  CHECK(ahead.step.tokenIds == std::vector<int32_t>({chosenToken(0), chosenToken(1)}));
  CHECK(ahead.step.slices[0].sequence == &first && ahead.step.slices[1].sequence == &second);
  const SequenceSlice& slice = ahead.step.step.sequences[1];
  CHECK_EQ(slice.contextLength, 16);
  CHECK_EQ(slice.totalLength, 17);
  CHECK(slice.generated);
  CHECK_EQ(second.pages.size(), 2u);
  CHECK(slice.pages == second.pages.data());
  CHECK_EQ(first.pending() + second.pending() + last.pending(), 0);
  // A token that is known is computed by a step of the usual kind.
  first.tokens.back() = 5;
  first.tokens.push_back(6);
  CHECK(!ahead.scheduler.canAdvance());
}

TEST(scheduler, steps_are_not_told_ahead_of_others_beginning) {
  Ahead ahead(limitsOf(64, 3));
  Sequence& first = ahead.submit(1, 3);
  ahead.scheduler.next(ahead.step);
  Ahead::choose(first, 0);
  CHECK(ahead.scheduler.canAdvance());
  ahead.submit(2, 40);
  CHECK(!ahead.scheduler.canAdvance());  // it may begin
  first.tokens.back() = 5;
  ahead.scheduler.next(ahead.step);
  Ahead::choose(first, 0);
  CHECK(ahead.scheduler.canAdvance());  // it found no pages, and waits for one to end
  ahead.submit(3, 1);
  CHECK(!ahead.scheduler.canAdvance());
  ahead.scheduler.remove(3);
  first.tokens.back() = 5;
  ahead.scheduler.next(ahead.step);
  Ahead::choose(first, 0);
  CHECK(ahead.scheduler.canAdvance());
  ahead.scheduler.remove(1);
  CHECK(!ahead.scheduler.canAdvance());
}

// Of a sequence whose prompt takes several steps, of one that must give its pages back, and where frequencies change.
TEST(scheduler, what_needs_more_than_a_row_is_not_told_ahead) {
  Ahead chunks(limitsOf(8, 8));
  chunks.submit(1, 9);
  chunks.scheduler.next(chunks.step);
  CHECK(!chunks.scheduler.canAdvance());
  Ahead pages(limitsOf(64, 2));
  Sequence &one = pages.submit(1, 16), &two = pages.submit(2, 15);
  pages.scheduler.next(pages.step);
  CHECK_EQ(pages.step.step.rows, 31);
  Ahead::choose(one, 0);
  Ahead::choose(two, 1);
  CHECK(!pages.scheduler.canAdvance());
  CHECK_EQ(pages.scheduler.preemptions(), 0);
  Ahead rotary(limitsOf(64, 8, 4));
  Sequence& turned = rotary.submit(1, 3);
  rotary.scheduler.next(rotary.step);
  Ahead::choose(turned, 0);
  CHECK(rotary.scheduler.canAdvance());  // 4 tokens: the base of the first
  rotary.scheduler.advance(rotary.step);
  Ahead::choose(turned, 0);
  CHECK(!rotary.scheduler.canAdvance());
}

}  // namespace shardspeed::test
