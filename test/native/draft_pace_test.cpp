#include "runtime/draft_pace.h"

#include "check.h"
#include "random.h"

namespace shardspeed::test {

TEST(draft_pace, drafts_grow_and_pause) {
  DraftPace pace;
  CHECK_EQ(pace.next(100), 4);
  CHECK_EQ(pace.next(3), 3);
  pace.tell(4, 4);
  CHECK_EQ(pace.next(100), 8);
  pace.tell(8, 8);
  CHECK_EQ(pace.next(100), 16);
  pace.tell(16, 5);
  CHECK_EQ(pace.next(100), 5);
  for (const int64_t steps : {0, 1, 3, 7, 15, 31, 63, 63}) {
    pace.tell(4, 0);
    for (int64_t i = 0; i < steps; ++i) CHECK_EQ(pace.next(100), 0);
    CHECK_EQ(pace.next(100), 2);
  }
  DraftPace fresh;
  fresh.tell(4, 0);
  CHECK_EQ(fresh.next(100), 0);
  CHECK_EQ(fresh.next(100), 2);
  pace.tell(2, 1);
  CHECK_EQ(pace.next(100), 2);
}

namespace {

constexpr int64_t kMs = 1000000;

// A machine whose steps take 30 ms, and as much more for each row of each sequence.
struct Machine {
  int64_t sequences;
  int64_t rowNs;
  DraftBudget budget;
  int64_t ns = 0, plainNs = 0, drafts = 0;

  int64_t stepNs(int64_t rows) const { return 30 * kMs + rows * rowNs; }
  // A step in which each sequence has a draft of so many tokens, of which some are right.
  void step(int64_t drafted, int64_t accepted) {
    const bool drafts = budget.allows(sequences);
    const int64_t tokens = sequences * (drafts ? 1 + accepted : 1);
    const int64_t taken = stepNs(sequences * (drafts ? 1 + drafted : 1));
    budget.tell(sequences, tokens, drafts, taken);
    ns += taken;
    plainNs += stepNs(sequences) * tokens / sequences;
    this->drafts += drafts;
  }
};

}  // namespace

TEST(draft_pace, drafts_lose_little_where_they_lose) {
  for (const int64_t sequences : {1, 8, 32})
    for (const int64_t rowNs : {kMs / 10, kMs, 10 * kMs}) {
      const Note note("sequences", sequences, "ns", rowNs);
      Machine machine{sequences, rowNs, {}};
      for (int i = 0; i < 300; ++i) machine.step(4, 0);
      CHECK(static_cast<double>(machine.plainNs) / static_cast<double>(machine.ns) > 0.97);
      CHECK(machine.drafts > 0);
    }
}

TEST(draft_pace, drafts_go_on_where_they_save) {
  Machine machine{8, kMs / 10, {}};
  for (int i = 0; i < 330; ++i) machine.step(4, 3);
  CHECK_EQ(machine.drafts, 320);  // one step in 33 measures what one without takes
  CHECK(machine.plainNs > 3 * machine.ns);
  // And what was saved is no licence to lose.
  machine.ns = machine.plainNs = 0;
  for (int i = 0; i < 300; ++i) machine.step(4, 0);
  CHECK(static_cast<double>(machine.plainNs) / static_cast<double>(machine.ns) > 0.97);
}

TEST(draft_pace, some_are_right_but_rows_cost_too_much) {
  Machine machine{32, 30 * kMs, {}};
  for (int i = 0; i < 300; ++i) machine.step(4, 1);
  CHECK(machine.drafts < 20);
  CHECK(static_cast<double>(machine.plainNs) / static_cast<double>(machine.ns) > 0.97);
}

TEST(draft_pace, a_number_of_sequences_is_measured_first) {
  DraftBudget budget;
  CHECK(!budget.allows(4));
  budget.tell(4, 4, false, 40 * kMs);
  CHECK(budget.allows(4));
  CHECK(!budget.allows(8));
  CHECK(!budget.allows(2));
  budget.tell(8, 8, false, 80 * kMs);
  CHECK(budget.allows(6));  // between two that are known
  // 60 ms are what such a step takes: nothing is lost, and then all that may be.
  budget.tell(6, 6, true, 60 * kMs);
  CHECK(budget.allows(6));
  budget.tell(6, 6, true, 122 * kMs);
  CHECK(!budget.allows(6));
}

// Other processes take processors away now and then.
TEST(draft_pace, a_hitch_is_forgotten) {
  DraftBudget budget;
  for (int i = 0; i < 5; ++i) budget.tell(1, 1, false, 30 * kMs);
  budget.tell(1, 1, false, 3000 * kMs);
  for (int i = 0; i < 20; ++i) budget.tell(1, 1, false, 30 * kMs);
  budget.tell(1, 1, true, 62 * kMs);
  CHECK(!budget.allows(1));
}

}  // namespace shardspeed::test
