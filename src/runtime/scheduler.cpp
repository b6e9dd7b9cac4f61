#include "runtime/scheduler.h"

#include <algorithm>
#include <utility>

namespace shardspeed {

Scheduler::Scheduler(SchedulerLimits limits) : limits_(limits), pool_(limits.pages) {}

void Scheduler::add(std::unique_ptr<Sequence> sequence) {
  blocked_ = false;
  std::vector<std::unique_ptr<Sequence>> apart;
  if (!sharesWithForks(*sequence)) apart.swap(sequence->forks);
  waiting_.push_back(std::move(sequence));
  for (auto& fork : apart) waiting_.push_back(std::move(fork));
}

std::unique_ptr<Sequence> Scheduler::remove(int64_t id) {
  const auto matches = [id](const std::unique_ptr<Sequence>& sequence) { return sequence->id == id; };
  const auto take = [&](auto& queue) -> std::unique_ptr<Sequence> {
    const auto found = std::find_if(queue.begin(), queue.end(), matches);
    if (found == queue.end()) return nullptr;
    std::unique_ptr<Sequence> removed = inherit(*found);
    if (!*found) queue.erase(found);
    release(*removed);
    return removed;
  };
  if (std::unique_ptr<Sequence> removed = take(running_)) return removed;
  if (std::unique_ptr<Sequence> removed = take(waiting_)) return removed;
  return removeFork(id);
}

void Scheduler::clear(ScheduledStep& step) {
  step.step.rows = 0;
  step.step.sequences.clear();
  step.tokenIds.clear();
  step.tokenTypes.clear();
  step.slices.clear();
  step.step.copies.clear();
}

void Scheduler::next(ScheduledStep& step) {
  clear(step);
  startForks();
  for (const auto& sequence : running_) refreshRotary(*sequence);
  // Decoding sequences go first: they need one row each, and a user waits for each next token.
  for (const bool decoding : {true, false}) {
    for (size_t i = 0; i < running_.size(); ++i) {
      const int64_t budget = limits_.maxBatchTokens - step.step.rows;
      if (budget == 0) break;
      if ((running_[i]->pending() == 1) == decoding && !scheduleRunning(step, i, budget)) break;
    }
  }
  admitWaiting(step);
  if (step.step.rows > 0) step.step.copies.swap(copies_);
  close(step);
}

// Pointers to what will not move any more.
void Scheduler::close(ScheduledStep& step) {
  step.step.tokenIds = step.tokenIds.data();
  step.step.tokenTypes = limits_.tokenTypes ? step.tokenTypes.data() : nullptr;
  for (size_t i = 0; i < step.slices.size(); ++i) step.step.sequences[i].pages = step.slices[i].sequence->pages.data();
}

bool Scheduler::canAdvance() const {
  if (!copies_.empty() || (!waiting_.empty() && !blocked_)) return false;
  int64_t missing = 0, rows = 0;
  for (const auto& sequence : running_) {
    if (!sequence->forks.empty() || sequence->settled) return false;
    if (sequence->pending() == 0) continue;  // ends with the step that is under way
    if (sequence->pending() > 1 || !isChosenToken(sequence->tokens.back())) return false;
    if (rotaryChange(sequence->length()) != sequence->rotaryLength) return false;
    missing += std::max<int64_t>(0, pagesFor(sequence->length()) - static_cast<int64_t>(sequence->pages.size()));
    ++rows;
  }
  return rows > 0 && missing <= pagesToTake();
}

void Scheduler::advance(ScheduledStep& step) {
  clear(step);
  for (const auto& sequence : running_) {
    if (sequence->pending() == 0) continue;
    reserve(*sequence, sequence->length());
    addRows(step, *sequence, 1);
  }
  close(step);
}

// The length that the frequencies of a sequence of this length were last changed by.
int64_t Scheduler::rotaryChange(int64_t length) const {
  int64_t changed = 0;
  for (const int64_t original : limits_.longOriginalPositions)
    if (length > original) changed = std::max(changed, original + 1);
  const int64_t dynamic = limits_.dynamicOriginalPositions;
  return dynamic > 0 && length > dynamic ? length : changed;
}

// Dynamic NTK rotates the keys of a sequence by a base that depends on the sequence's length. Beyond the original
// length each new token changes the base, so all cached keys of the sequence become invalid. So does the token with
// which a sequence becomes a long one, where those have frequencies of their own.
void Scheduler::refreshRotary(Sequence& sequence) {
  const int64_t changed = rotaryChange(sequence.length());
  if (sequence.rotaryLength != changed) sequence.readTokens = sequence.length();
  if (sequence.computed > 0 && sequence.rotaryLength != changed) {
    // Its pages may be others' too, and these are not written again.
    const auto tokens = static_cast<int64_t>(sequence.pages.size()) * kPageTokens;
    release(sequence);
    reserve(sequence, tokens);
  }
  sequence.rotaryLength = changed;
}

// Whether keys and values of the sequence are the same for all sequences that begin with the same tokens.
bool Scheduler::mayShare(const Sequence& sequence) const {
  return limits_.prefixCache && !limits_.wholeSequences && !limits_.tokenTypes && sequence.wanted == Wanted::kTokens &&
         sequence.rotaryLength == 0;
}

// The prompt's length stays: neither chunks nor pages that are found, nor computing it again, change what its rows are.
// Sequences that generate nothing usually come many in a step: all are computed as long ones.
int64_t Scheduler::promptClassOf(const Sequence& sequence) const {
  if (sequence.wanted != Wanted::kTokens) return 0;
  return std::count_if(limits_.promptLimits.begin(), limits_.promptLimits.end(),
                       [&](int64_t limit) { return sequence.promptLength <= limit; });
}

// Of the page behind those that are shared.
PageKey Scheduler::keyOf(const Sequence& sequence) const {
  const int64_t first = sequence.sharedPages * kPageTokens;
  PageKey key{sequence.sharedContent, first == 0 ? sequence.cacheSalt : "", promptClassOf(sequence), {}};
  std::copy_n(sequence.tokens.begin() + first, kPageTokens, key.tokens.begin());
  return key;
}

// Where a generated row is computed otherwise than a row of a prompt, only pages of prompts are the same for all.
void Scheduler::share(Sequence& sequence, int64_t computed) {
  if (!mayShare(sequence)) return;
  const int64_t tokens = limits_.rowsApart ? std::min(computed, sequence.promptLength) : computed;
  while ((sequence.sharedPages + 1) * kPageTokens <= tokens) {
    const int32_t page = sequence.pages[static_cast<size_t>(sequence.sharedPages)];
    sequence.sharedContent = pool_.publish(page, keyOf(sequence));
    ++sequence.sharedPages;
  }
}

// Holds the pages of others that the sequence begins with. Its last token is computed in any case: the next one is
// sampled from its row.
void Scheduler::findPages(Sequence& sequence) {
  if (!sequence.usesFoundPages() || !mayShare(sequence)) return;
  int64_t tokens = sequence.length() - 1;
  // What a sequence has generated may be the prompt of another one.
  if (limits_.rowsApart) tokens = std::min(tokens, sequence.readTokens);
  const int64_t most = tokens / kPageTokens;
  while (sequence.sharedPages < most && entriesLeft() > 0) {
    const std::optional<FoundPage> found = pool_.find(keyOf(sequence));
    if (!found) break;
    pool_.hold(found->page);
    sequence.pages.push_back(found->page);
    sequence.sharedContent = found->content;
    ++sequence.sharedPages;
    ++tableEntries_;
  }
  sequence.computed = sequence.sharedPages * kPageTokens;
}

// Once for each sequence, however often it has to begin again.
void Scheduler::countFound(Sequence& sequence) {
  if (sequence.cachedTokens) return;
  sequence.cachedTokens = sequence.computed;
  if (!sequence.usesFoundPages() || !mayShare(sequence)) return;
  prefixQueries_ += sequence.promptLength;
  prefixHits_ += sequence.computed;
}

int64_t Scheduler::pagesToTake() const {
  return std::min(freePages(), entriesLeft());
}

bool Scheduler::reserve(Sequence& sequence, int64_t tokens) {
  const int64_t missing = pagesFor(tokens) - static_cast<int64_t>(sequence.pages.size());
  if (missing <= 0) return true;
  if (missing > pagesToTake()) return false;
  for (int64_t i = 0; i < missing; ++i) sequence.pages.push_back(pool_.take());
  tableEntries_ += missing;
  return true;
}

void Scheduler::release(Sequence& sequence) {
  for (size_t i = sequence.pages.size(); i-- > 0;) pool_.release(sequence.pages[i]);
  tableEntries_ -= static_cast<int64_t>(sequence.pages.size());
  blocked_ = false;
  sequence.pages.clear();
  sequence.computed = sequence.sharedPages = sequence.sharedContent = 0;
}

int64_t Scheduler::computingCount() const {
  return std::count_if(running_.begin(), running_.end(), [](const auto& sequence) { return !sequence->settled; });
}

// Of those that hold pages or want some.
size_t Scheduler::youngest() const {
  size_t index = running_.size() - 1;
  while (running_[index]->settled && running_[index]->pages.empty()) --index;
  return index;
}

// A beam that waits for others stays: it has to be computed again only if it goes on.
void Scheduler::preempt(size_t index) {
  release(*running_[index]);
  ++preemptions_;
  if (running_[index]->settled) return;
  waiting_.push_front(std::move(running_[index]));
  running_.erase(running_.begin() + static_cast<std::ptrdiff_t>(index));
}

// Takes the pages of the youngest beam that waits for another one: nobody else can give that one pages. False where
// there is none.
bool Scheduler::releaseSettled() {
  for (size_t index = running_.size(); index-- > 0;) {
    if (!running_[index]->settled || running_[index]->pages.empty()) continue;
    preempt(index);
    return true;
  }
  return false;
}

// Rows of the sequence's draft that have a place in the step: others' next tokens come first, and so does memory.
int64_t Scheduler::draftRows(const ScheduledStep& step, const Sequence& sequence) const {
  const auto drafted = static_cast<int64_t>(sequence.draft.size());
  if (drafted == 0 || sequence.pending() != 1) return 0;
  const int64_t length = sequence.length();
  // Rows that are computed now must be as they would be later, when the sequence is longer.
  int64_t most = limits_.dynamicOriginalPositions > 0 ? limits_.dynamicOriginalPositions - length : drafted;
  for (const int64_t original : limits_.longOriginalPositions)
    if (length <= original) most = std::min(most, original - length);
  most = std::min({most, drafted, limits_.maxBatchTokens - step.step.rows - runningCount()});
  const int64_t pages = static_cast<int64_t>(sequence.pages.size()) + pagesToTake();
  return std::max<int64_t>(0, std::min(most, pages * kPageTokens - length));
}

// The sequence's next rows, then those of its draft.
void Scheduler::addRows(ScheduledStep& step, Sequence& sequence, int64_t rows, int64_t drafted) {
  if (!limits_.rowsApart || (drafted == 0 && sequence.computed < sequence.readTokens)) {
    addSlice(step, {&sequence, drafted, 0}, rows);
    sequence.computed += rows;
    return;
  }
  for (int64_t i = 0; i < rows; ++i) {
    addSlice(step, {&sequence, 0, 0}, 1);
    step.step.sequences.back().follows = i;
    ++sequence.computed;
  }
  for (int64_t i = 0; i < drafted; ++i) addSlice(step, {&sequence, 1, i}, 0);
}

// rows: of the sequence's tokens, ahead of those of the draft.
void Scheduler::addSlice(ScheduledStep& step, const ScheduledSlice& use, int64_t rows) {
  const Sequence& sequence = *use.sequence;
  const bool isDraft = rows == 0;
  SequenceSlice slice;
  slice.firstRow = step.step.rows;
  slice.rowCount = rows + use.drafted;
  slice.contextLength = isDraft ? sequence.length() + use.skipped : sequence.computed;
  slice.totalLength = sequence.length() + use.skipped + use.drafted;
  if (isDraft) slice.follows = use.skipped + 1;
  slice.promptClass = promptClassOf(sequence);
  slice.generated = slice.rowCount == 1 && slice.contextLength >= sequence.readTokens;
  step.step.sequences.push_back(slice);
  step.slices.push_back(use);
  const auto first = sequence.tokens.begin() + sequence.computed;
  step.tokenIds.insert(step.tokenIds.end(), first, first + rows);
  const auto draft = sequence.draft.begin() + use.skipped;
  step.tokenIds.insert(step.tokenIds.end(), draft, draft + use.drafted);
  if (limits_.tokenTypes)
    for (int64_t at = slice.contextLength; at < slice.contextLength + slice.rowCount; ++at)
      step.tokenTypes.push_back(
          at < static_cast<int64_t>(sequence.tokenTypes.size()) ? sequence.tokenTypes[static_cast<size_t>(at)] : 0);
  step.step.rows += slice.rowCount;
}

// Where generated rows are computed otherwise than those of prompts, those that have to be computed again come as they
// did for the first time, each a slice of its own, so that their bits are the same. Each takes launches of its own: not
// too many of them keep others waiting.
int64_t Scheduler::nextRows(const Sequence& sequence, int64_t budget) const {
  constexpr int64_t kMostAgain = 64;
  const int64_t rows = std::min(sequence.pending(), budget);
  if (!limits_.rowsApart) return rows;
  const int64_t ofPrompt = sequence.readTokens - sequence.computed;
  return std::min(rows, ofPrompt > 0 ? ofPrompt : kMostAgain);
}

// False if the sequence itself had to give its pages back.
bool Scheduler::scheduleRunning(ScheduledStep& step, size_t index, int64_t budget) {
  Sequence& sequence = *running_[index];
  const int64_t rows = nextRows(sequence, budget);
  if (rows == 0) return true;
  while (!reserve(sequence, sequence.computed + rows)) {
    const size_t last = youngest();
    const Sequence* loser = running_[last].get();
    // A sequence that is in this step already keeps its pages, since its rows will be written there.
    const auto isLoser = [loser](const ScheduledSlice& slice) { return slice.sequence == loser; };
    if (std::any_of(step.slices.begin(), step.slices.end(), isLoser)) return true;
    preempt(last);
    if (loser == &sequence) return false;
  }
  const int64_t drafted = draftRows(step, sequence);
  reserve(sequence, sequence.computed + rows + drafted);
  addRows(step, sequence, rows, drafted);
  return true;
}

void Scheduler::admitWaiting(ScheduledStep& step) {
  blocked_ = false;
  while (!waiting_.empty() && step.step.rows < limits_.maxBatchTokens && computingCount() < limits_.maxBatchTokens) {
    Sequence& sequence = *waiting_.front();
    refreshRotary(sequence);
    const int64_t budget = limits_.maxBatchTokens - step.step.rows;
    if (limits_.wholeSequences && sequence.pending() > budget) break;
    findPages(sequence);
    // A sequence starts only when all its tokens have pages: half a prompt in the cache would only block others.
    if (!reserve(sequence, sequence.length())) {
      release(sequence);
      if (step.step.rows == 0 && releaseSettled()) continue;
      blocked_ = true;
      break;
    }
    countFound(sequence);
    addRows(step, sequence, nextRows(sequence, budget));
    running_.push_back(std::move(waiting_.front()));
    waiting_.pop_front();
  }
  if (computingCount() >= limits_.maxBatchTokens) blocked_ = true;
}

}  // namespace shardspeed
