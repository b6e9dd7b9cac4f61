#include <algorithm>
#include <utility>

#include "runtime/scheduler.h"

// What the scheduler does for samples of one prompt. Each but the first is a sequence of its own that begins with the
// first one's pages, all but the last token of the prompt computed: it computes the row of that token again, so that it
// need not begin in the very step in which the first one does. The step after, nothing tells it from other sequences.

namespace shardspeed {

int64_t Scheduler::waitingCount() const {
  auto count = static_cast<int64_t>(waiting_.size());
  for (const auto& sequence : running_) count += static_cast<int64_t>(sequence->forks.size());
  for (const auto& sequence : waiting_) count += static_cast<int64_t>(sequence->forks.size());
  return count;
}

// Whether what the cache holds of the prompt stays as it is, however long a sample becomes.
bool Scheduler::sharesWithForks(const Sequence& sequence) const {
  const int64_t length = sequence.promptLength;
  return !limits_.wholeSequences && rotaryChange(length) == rotaryChange(length + sequence.maxNewTokens);
}

// Lets a sequence without pages begin with the first tokens of another one. Full pages are held by both. The last page
// is copied, because both will write to it; where no page is free its tokens are left to be computed.
void Scheduler::fork(const Sequence& from, Sequence& to, int64_t tokens) {
  to.cachedTokens = from.cachedTokens;
  to.rotaryLength = from.rotaryLength;
  to.readTokens = from.readTokens;
  const int64_t full = tokens / kPageTokens;
  if (full > entriesLeft()) return;
  to.pages.assign(from.pages.begin(), from.pages.begin() + full);
  for (const int32_t page : to.pages) pool_.hold(page);
  tableEntries_ += full;
  to.computed = full * kPageTokens;
  if (tokens == to.computed || !reserve(to, tokens)) return;
  copies_.push_back({from.pages[static_cast<size_t>(full)], to.pages.back()});
  to.computed = tokens;
}

void Scheduler::addFork(const Sequence& from, std::unique_ptr<Sequence> added) {
  fork(from, *added, from.computed);
  const auto isFrom = [&](const std::unique_ptr<Sequence>& one) { return one.get() == &from; };
  running_.insert(std::find_if(running_.begin(), running_.end(), isFrom) + 1, std::move(added));
}

// Begins forks of running sequences whose prompts are in the cache, behind these: they came together.
void Scheduler::startForks() {
  for (size_t i = 0; i < running_.size(); ++i) {
    Sequence& first = *running_[i];
    auto& forks = first.forks;
    size_t begun = 0;
    while (begun < forks.size() && first.computed >= first.promptLength - 1 && freePages() > 0 &&
           pagesFor(first.promptLength) <= entriesLeft() && computingCount() < limits_.maxBatchTokens) {
      fork(first, *forks[begun], first.promptLength - 1);
      // The page of its next row: others must not take it meanwhile.
      reserve(*forks[begun], first.promptLength);
      const auto place = running_.begin() + static_cast<std::ptrdiff_t>(i + 1 + begun);
      running_.insert(place, std::move(forks[begun]));
      ++begun;
    }
    forks.erase(forks.begin(), forks.begin() + static_cast<std::ptrdiff_t>(begun));
  }
}

// Removes a sequence from its place. Its first fork, if it has any, takes the place and the other forks.
std::unique_ptr<Sequence> Scheduler::inherit(std::unique_ptr<Sequence>& place) {
  std::unique_ptr<Sequence> removed = std::move(place);
  if (removed->forks.empty()) return removed;
  place = std::move(removed->forks.front());
  place->forks.assign(std::make_move_iterator(removed->forks.begin() + 1),
                      std::make_move_iterator(removed->forks.end()));
  removed->forks.clear();
  fork(*removed, *place, std::min(removed->computed, removed->promptLength - 1));
  return removed;
}

std::unique_ptr<Sequence> Scheduler::removeFork(int64_t id) {
  const auto takeFrom = [id](auto& queue) -> std::unique_ptr<Sequence> {
    for (const auto& sequence : queue) {
      auto& forks = sequence->forks;
      const auto found = std::find_if(forks.begin(), forks.end(), [id](const auto& fork) { return fork->id == id; });
      if (found == forks.end()) continue;
      std::unique_ptr<Sequence> removed = std::move(*found);
      forks.erase(found);
      return removed;
    }
    return nullptr;
  };
  std::unique_ptr<Sequence> removed = takeFrom(running_);
  return removed ? std::move(removed) : takeFrom(waiting_);
}

}  // namespace shardspeed
