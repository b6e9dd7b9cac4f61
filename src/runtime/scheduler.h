#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "backend.h"
#include "runtime/page_pool.h"
#include "runtime/sequence.h"

namespace shardspeed {

struct SchedulerLimits {
  int64_t maxBatchTokens = 512;                     // rows of a step
  int64_t pages = 0;                                // of the KV cache
  int64_t dynamicOriginalPositions = 0;             // RotarySpec's; 0 = the rotary base never changes
  std::vector<int64_t> longOriginalPositions = {};  // LongRotary's of all tables
  bool wholeSequences = false;                      // tokens see later ones: a sequence is computed in one step
  bool tokenTypes = false;                          // whether steps have them
  bool rowsApart = false;                           // a generated row is a slice of its own, and so is each of a draft
  bool prefixCache = false;                         // sequences that begin alike share pages
  std::vector<int64_t> promptLimits = {};           // Backend's
};

// What a slice of a step is for.
struct ScheduledSlice {
  Sequence* sequence;
  int64_t drafted;  // rows at its end that are of the sequence's draft
  int64_t skipped;  // tokens of the draft that are in the slices before
};

// A step and the sequences behind its slices.
struct ScheduledStep {
  Step step;
  std::vector<int32_t> tokenIds;    // (rows), step.tokenIds points here
  std::vector<int32_t> tokenTypes;  // (rows), or none; step.tokenTypes points here
  std::vector<ScheduledSlice> slices;
};

// Forms ragged steps (continuous batching: Yu et al., Orca, 2022; chunked prefill: Agrawal et al., Sarathi, 2023;
// pages: Kwon et al., PagedAttention, 2023). Sequences enter in order of arrival, and only when the pages for their
// tokens are free. If a running sequence finds no page, the youngest gives its pages back and waits at the head of the
// queue to be computed again. That does not change results, since a row's bits do not depend on the batch. Sequences
// that begin with the same tokens share the full pages of these (prefix cache), which nobody writes again. Samples of
// one prompt (forks) share its pages from the start.
class Scheduler {
 public:
  explicit Scheduler(SchedulerLimits limits);

  void add(std::unique_ptr<Sequence> sequence);
  // Returns the sequence, whose pages are free then; null if there is none with this id. Where it has forks, one of
  // them takes its place.
  std::unique_ptr<Sequence> remove(int64_t id);
  bool idle() const { return running_.empty() && waiting_.empty(); }

  // Behind the step that computed the sequence's last rows: others can find its full pages.
  void share(Sequence& sequence) { share(sequence, sequence.computed); }
  // Likewise, where only so many tokens have been computed yet.
  void share(Sequence& sequence, int64_t computed);
  // Adds a sequence that begins as a running one, with the pages of its own.
  void addFork(const Sequence& from, std::unique_ptr<Sequence> fork);

  // Fills step with the next work, and counts its rows as computed, but for those of drafts. Every sequence that fits
  // alone is finished some time.
  void next(ScheduledStep& step);

  // Whether the step behind one that is under way can be told without its results: the next row of each sequence whose
  // last token it chooses, and nothing else. Not where anything could be begun instead, or has to give its pages back.
  bool canAdvance() const;
  // As next(), of that step.
  void advance(ScheduledStep& step);

  const std::vector<std::unique_ptr<Sequence>>& running() const { return running_; }
  int64_t runningCount() const { return static_cast<int64_t>(running_.size()); }
  // Forks that have not begun are among them.
  int64_t waitingCount() const;
  int64_t freePages() const { return pool_.freePages(); }
  int64_t preemptions() const { return preemptions_; }
  // Pages that nobody needs to hold to be found; those that nobody holds count as free too.
  int64_t findablePages() const { return pool_.findablePages(); }
  // Tokens of prompts that were looked for in pages of others, and that were found.
  int64_t prefixQueries() const { return prefixQueries_; }
  int64_t prefixHits() const { return prefixHits_; }

 private:
  int64_t rotaryChange(int64_t length) const;
  int64_t nextRows(const Sequence& sequence, int64_t budget) const;
  void refreshRotary(Sequence& sequence);
  bool mayShare(const Sequence& sequence) const;
  int64_t promptClassOf(const Sequence& sequence) const;
  PageKey keyOf(const Sequence& sequence) const;
  void findPages(Sequence& sequence);
  void countFound(Sequence& sequence);
  static int64_t pagesFor(int64_t tokens) { return (tokens + kPageTokens - 1) / kPageTokens; }
  // Of all page tables together.
  int64_t entriesLeft() const { return limits_.pages * kTableEntriesPerPage - tableEntries_; }
  int64_t pagesToTake() const;
  bool reserve(Sequence& sequence, int64_t tokens);
  void release(Sequence& sequence);
  bool sharesWithForks(const Sequence& sequence) const;
  void fork(const Sequence& from, Sequence& to, int64_t tokens);
  void startForks();
  std::unique_ptr<Sequence> inherit(std::unique_ptr<Sequence>& place);
  std::unique_ptr<Sequence> removeFork(int64_t id);
  // Running sequences but for beams that wait for others.
  int64_t computingCount() const;
  size_t youngest() const;
  void preempt(size_t index);
  bool releaseSettled();
  int64_t draftRows(const ScheduledStep& step, const Sequence& sequence) const;
  static void clear(ScheduledStep& step);
  void close(ScheduledStep& step);
  void addRows(ScheduledStep& step, Sequence& sequence, int64_t rows, int64_t drafted = 0);
  void addSlice(ScheduledStep& step, const ScheduledSlice& use, int64_t rows);
  bool scheduleRunning(ScheduledStep& step, size_t index, int64_t budget);
  void admitWaiting(ScheduledStep& step);

  SchedulerLimits limits_;
  std::vector<std::unique_ptr<Sequence>> running_;  // oldest first
  std::deque<std::unique_ptr<Sequence>> waiting_;   // next first
  bool blocked_ = false;                            // nothing that waits can begin before another one ends
  PagePool pool_;
  int64_t tableEntries_ = 0;      // of all page tables
  std::vector<PageCopy> copies_;  // of the next step
  int64_t preemptions_ = 0;
  int64_t prefixQueries_ = 0;
  int64_t prefixHits_ = 0;
};

}  // namespace shardspeed
