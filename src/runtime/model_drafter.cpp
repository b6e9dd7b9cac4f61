#include "runtime/model_drafter.h"

#include <algorithm>

#include "base/thread_clock.h"

namespace shardspeed {

ModelDrafter::ModelDrafter(const EngineOptions& options, int64_t draftTokens, ThreadPool& pool,
                           const std::atomic<bool>& stop)
    : options_(options),
      draftTokens_(draftTokens),
      rank_(options, 0, nullptr, stop, &pool),
      pages_(options.kvCachePages) {
  LoadCounts counts;
  rank_.load(counts, {});
}

// A sequence has a draft once the draft model has read all of it, a step's rows at a time: reading a long prompt holds
// nobody up for long.
int64_t ModelDrafter::makeDrafts(const std::vector<DraftWish>& wishes) {
  ++round_;
  turns_.clear();
  for (const DraftWish& wish : wishes) {
    if (!isInReach(wish)) continue;
    turns_.push_back({wish.sequence, &follow(*wish.sequence), wish.most, wish.sequence->sampler.forDrafts()});
  }
  std::stable_sort(turns_.begin(), turns_.end(),
                   [](const Turn& a, const Turn& b) { return a.pending() < b.pending(); });
  int64_t readingNanoseconds = 0;
  while (!turns_.empty()) {
    const int64_t start = threadNanoseconds();
    if (!computeStep()) break;
    if (readsPrompts_) readingNanoseconds += threadNanoseconds() - start;
    std::erase_if(turns_, [](const Turn& turn) { return turn.over; });
  }
  return readingNanoseconds;
}

// A draft model whose rotary frequencies change with the length would have to compute everything again there.
bool ModelDrafter::isInReach(const DraftWish& wish) const {
  const int64_t length = wish.sequence->length() + wish.most;
  if (length > options_.maxSequenceTokens) return false;
  const int64_t dynamic = dynamicOriginalPositions(options_.spec);
  const std::vector<int64_t> originals = longOriginalPositions(options_.spec);
  return (dynamic == 0 || length <= dynamic) &&
         std::all_of(originals.begin(), originals.end(), [length](int64_t original) { return length <= original; });
}

// The last token is computed in any case, for what comes behind it.
ModelDrafter::Text& ModelDrafter::follow(const Sequence& sequence) {
  Text& text = texts_[sequence.id];
  const auto most = static_cast<std::ptrdiff_t>(std::min(text.tokens.size(), sequence.tokens.size() - 1));
  const auto agreed = std::mismatch(text.tokens.begin(), text.tokens.begin() + most, sequence.tokens.begin()).first;
  text.tokens.erase(agreed, text.tokens.end());
  text.round = round_;
  return text;
}

// One step of the draft model, and a token of the drafts of all sequences that it has read. False if there was none.
bool ModelDrafter::computeStep() {
  step_.rows = 0;
  step_.sequences.clear();
  step_.wantedRows.clear();
  tokenIds_.clear();
  wanted_.clear();
  readsPrompts_ = false;
  for (Turn& turn : turns_) {
    const int64_t rows = std::min(turn.pending(), options_.maxBatchTokens - step_.rows);
    turn.over = rows < turn.pending();
    if (rows > 0 && reserve(*turn.text, static_cast<int64_t>(turn.text->tokens.size()) + rows))
      addSlice(turn, rows);
    else
      turn.over = true;
  }
  if (step_.rows == 0) return false;
  tokenTypes_.assign(static_cast<size_t>(step_.rows), 0);
  step_.tokenIds = tokenIds_.data();
  step_.tokenTypes = options_.spec.embedding.tokenTypes > 0 ? tokenTypes_.data() : nullptr;
  std::vector<SampledToken> sampled(wanted_.size());
  Executor::Outputs outputs;
  outputs.sink = [&](int64_t first, int64_t count, float* rows) {
    rank_.pool().forEach(count, [&](int64_t i, int) {
      const auto index = static_cast<size_t>(first + i);
      const int64_t vocab = options_.spec.vocabSize;
      sampled[index] = wanted_[index]->sampler.sample(rows + i * vocab, vocab);
    });
  };
  if (!rank_.run(step_, outputs)) return false;
  for (size_t i = 0; i < wanted_.size(); ++i) {
    Turn& turn = *wanted_[i];
    const int32_t token = sampled[i].token;
    // Nothing comes behind a token that ends the sequence.
    turn.over = !sampled[i].finite || sampled[i].blocked || turn.sampler.isStop(token);
    if (turn.over) continue;
    std::vector<int32_t>& draft = turn.sequence->draft;
    draft.push_back(token);
    turn.sampler.accept(token);
    turn.over = static_cast<int64_t>(draft.size()) == turn.most;
  }
  return true;
}

void ModelDrafter::addSlice(Turn& turn, int64_t rows) {
  Text& text = *turn.text;
  SequenceSlice slice;
  slice.firstRow = step_.rows;
  slice.rowCount = rows;
  slice.contextLength = static_cast<int64_t>(text.tokens.size());
  slice.totalLength = turn.length();
  slice.pages = text.pages.data();
  slice.generated = rows == 1;
  step_.sequences.push_back(slice);
  readsPrompts_ |= slice.contextLength < turn.sequence->promptLength;
  const int64_t known = turn.sequence->length();
  for (int64_t at = slice.contextLength; at < slice.contextLength + rows; ++at)
    text.tokens.push_back(at < known ? turn.sequence->tokens[static_cast<size_t>(at)]
                                     : turn.sequence->draft[static_cast<size_t>(at - known)]);
  tokenIds_.insert(tokenIds_.end(), text.tokens.end() - rows, text.tokens.end());
  step_.rows += rows;
  if (turn.over) return;
  step_.wantedRows.push_back(static_cast<int32_t>(step_.rows - 1));
  wanted_.push_back(&turn);
}

// Sequences that have no draft now give their pages to those that have: they wait, or what they say is not guessed.
bool ModelDrafter::reserve(Text& text, int64_t tokens) {
  const int64_t missing = (tokens + kPageTokens - 1) / kPageTokens - static_cast<int64_t>(text.pages.size());
  for (auto& [id, other] : texts_) {
    if (missing <= pages_.freePages()) break;
    if (other.round != round_) release(other);
  }
  if (missing > pages_.freePages()) return false;
  for (int64_t i = 0; i < missing; ++i) text.pages.push_back(pages_.take());
  return true;
}

void ModelDrafter::release(Text& text) {
  for (size_t i = text.pages.size(); i-- > 0;) pages_.release(text.pages[i]);
  text.pages.clear();
  text.tokens.clear();
}

void ModelDrafter::forget(int64_t id) {
  const auto found = texts_.find(id);
  if (found == texts_.end()) return;
  release(found->second);
  texts_.erase(found);
}

}  // namespace shardspeed
