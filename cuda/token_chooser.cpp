#include "cuda/token_chooser.h"

#include <algorithm>
#include <cstring>
#include <span>

#include "base/error.h"
#include "cuda/advance.h"
#include "cuda/error.h"

namespace shardspeed::cuda {

static_assert(kMostScored <= kMostLogprobs);

TokenChooser::Room TokenChooser::roomOf(int64_t vocab, int64_t maxRows, int64_t maxTokens) {
  return {maxRows, static_cast<size_t>(std::min(maxTokens + maxRows, vocab * maxRows)),
          static_cast<size_t>(maxRows * kBannedPerRow), static_cast<size_t>(maxRows * kBiasesPerRow),
          static_cast<size_t>(maxRows * maskWords(vocab))};
}

size_t TokenChooser::listBytes(const Room& room) {
  return static_cast<size_t>(room.rows) * sizeof(SampleRow) + (room.counts + 1) * sizeof(TokenCount) +
         (room.banned + room.masks) * sizeof(int32_t) +
         (room.biases + 1) * sizeof(BiasEntry);  // 1: lists begin at multiples
}

size_t TokenChooser::bytesOf(int64_t vocab, int64_t maxRows, int64_t maxTokens) {
  const auto rows = static_cast<size_t>(maxRows);
  return listBytes(roomOf(vocab, maxRows, maxTokens)) +
         rows * (sizeof(SampleResult) + sizeof(ScoreRow) + sizeof(ScoreResult)) + sampleWorkspaceBytes(maxRows, vocab);
}

TokenChooser::TokenChooser(int64_t vocab, int64_t maxRows, int64_t maxTokens)
    : vocab_(vocab),
      room_(roomOf(vocab, maxRows, maxTokens)),
      wishes_(listBytes(room_), "sampling"),
      results_(static_cast<size_t>(maxRows) * sizeof(SampleResult), "sampling"),
      hostScoreRows_(static_cast<size_t>(maxRows) * sizeof(ScoreRow), "scoring"),
      hostScores_(static_cast<size_t>(maxRows) * sizeof(ScoreResult), "scoring"),
      scoreRows_(static_cast<size_t>(maxRows) * sizeof(ScoreRow), "scoring"),
      scores_(static_cast<size_t>(maxRows) * sizeof(ScoreResult), "scoring"),
      workspace_(sampleWorkspaceBytes(maxRows, vocab), "sampling") {
  for (Turn& turn : turns_) {
    turn.wishes = PinnedMemory(wishes_.bytes(), "sampling");
    turn.results = PinnedMemory(results_.bytes(), "sampling");
  }
}

static bool penalizes(const SamplingParams& params) {
  return params.repetitionPenalty != 1 || params.presencePenalty != 0 || params.frequencyPenalty != 0;
}

static bool bans(const SamplingState& state) {
  return state.newTokens < state.params.minNewTokens && !state.params.stopTokens.empty();
}

bool TokenChooser::isPlain(const SamplingState* const* states, int64_t count) {
  return std::all_of(states, states + count, [](const SamplingState* state) {
    const SamplingParams& params = state->params;
    return params.temperature == 0 && params.logprobs < 0 && !penalizes(params) && !bans(*state) &&
           params.biases.empty() && state->constraints.empty();
  });
}

// Constraints compute their masks while the device computes the step: its kernels were only queued so far.
bool TokenChooser::pack(const SamplingState* const* states, int64_t count) {
  counts_.clear();
  banned_.clear();
  biases_.clear();
  masks_.clear();
  hasUnknown_ = false;
  turn().sent.wait("sampling");
  auto* rows = turn().wishes.as<SampleRow>();
  for (int64_t i = 0; i < count; ++i) {
    if (states[i]->params.logprobs > kMostLogprobs) return false;
    packRow(*states[i], rows[i]);
    if (states[i]->constraints.empty()) continue;
    const size_t first = masks_.size();
    masks_.resize(first + static_cast<size_t>(maskWords(vocab_)));
    const MaskKind kind = fillMask(*states[i], vocab_, masks_.data() + first);
    turn().blocked[static_cast<size_t>(i)] = kind == MaskKind::kNothing ? 1 : 0;
    if (kind == MaskKind::kSome) {
      rows[i].mask = static_cast<int32_t>(first / static_cast<size_t>(maskWords(vocab_)));
      rows[i].bannedEntries = 0;  // the mask heeds them
    } else {
      masks_.resize(first);
    }
  }
  return counts_.size() <= room_.counts && banned_.size() <= room_.banned && biases_.size() <= room_.biases;
}

void TokenChooser::packRow(const SamplingState& state, SampleRow& row) {
  const SamplingParams& params = state.params;
  row = {};
  row.temperature = params.temperature;
  row.topK = params.topK;
  row.topP = params.topP;
  row.minP = params.minP;
  row.repetitionPenalty = params.repetitionPenalty;
  row.presencePenalty = params.presencePenalty;
  row.frequencyPenalty = params.frequencyPenalty;
  row.logprobs = params.logprobs;
  row.seed = params.seed;
  row.counter = static_cast<uint64_t>(state.newTokens);
  row.firstCount = static_cast<int32_t>(counts_.size());
  row.firstBanned = static_cast<int32_t>(banned_.size());
  row.firstBias = static_cast<int32_t>(biases_.size());
  if (penalizes(params)) {
    for (const auto& [token, times] : state.counts)
      if (token >= 0 && token < vocab_) counts_.push_back({token, times, 0});
    row.unknown = state.unknown;
    if (row.unknown >= 0) counts_.push_back({-1, 0, 0});
    hasUnknown_ |= row.unknown >= 0;
  }
  if (bans(state))
    for (const int32_t token : params.stopTokens)
      if (token >= 0 && token < vocab_) banned_.push_back(token);
  for (const auto& [token, bias] : params.biases)
    if (token >= 0 && token < vocab_) biases_.push_back({token, bias, 0});
  row.countEntries = static_cast<int32_t>(counts_.size()) - row.firstCount;
  row.bannedEntries = static_cast<int32_t>(banned_.size()) - row.firstBanned;
  row.biasEntries = static_cast<int32_t>(biases_.size()) - row.firstBias;
}

// All lists but that of masks begin where the memory does, and rows tell their entries' places from there: so one copy
// brings them, and kernels of a captured step find those of later ones.
SampleLists TokenChooser::upload(int64_t count, const Stream& stream) {
  auto* host = turn().wishes.as<uint8_t>();
  auto* device = wishes_.as<uint8_t>();
  size_t used = static_cast<size_t>(count) * sizeof(SampleRow);
  const auto put = [&]<typename T>(const std::vector<T>& list) {
    const size_t first = (used + sizeof(T) - 1) / sizeof(T);
    if (!list.empty()) std::memcpy(host + first * sizeof(T), list.data(), list.size() * sizeof(T));
    if (!list.empty()) used = (first + list.size()) * sizeof(T);
    return static_cast<int32_t>(first);
  };
  const int32_t firstCount = put(counts_), firstBanned = put(banned_), firstBias = put(biases_);
  auto* rows = turn().wishes.as<SampleRow>();
  for (SampleRow* row = rows; row < rows + count; ++row) {
    row->firstCount += firstCount;
    row->firstBanned += firstBanned;
    row->firstBias += firstBias;
  }
  SampleLists lists = fixedLists();
  lists.masks += put(masks_);
  check(cudaMemcpyAsync(device, host, used, cudaMemcpyHostToDevice, stream.get()), "sampling");
  turn().sent.record(stream);
  return lists;
}

SampleLists TokenChooser::fixedLists() const {
  void* wishes = wishes_.as();
  return {static_cast<const SampleRow*>(wishes), static_cast<TokenCount*>(wishes), static_cast<const int32_t*>(wishes),
          static_cast<BiasEntry*>(wishes), static_cast<const int32_t*>(wishes)};
}

void TokenChooser::sample(Choice choice, const SampleLists& lists, float* logits, int64_t stride, int64_t count,
                          const Stream& stream) {
  if (choice == Choice::kByHistory)
    countTokens(lists.rows, lists.counts, results_.as<SampleResult>(), count, stream.get());
  sampleRows(logits, stride, vocab_, count, choice == Choice::kLikeliest, lists, results_.as<SampleResult>(),
             workspace_.as(), stream.get());
}

// Constraints compute their masks while the device computes the step, so it cannot be told of these ahead.
TokenChooser::Choice TokenChooser::announce(const SamplingState* const* states, int64_t count, int64_t padded,
                                            const Stream& stream) {
  if (padded > room_.rows || count == 0) return Choice::kNot;
  if (isPlain(states, count)) return Choice::kLikeliest;
  const auto isConstrained = [](const SamplingState* state) { return !state->constraints.empty(); };
  if (std::any_of(states, states + count, isConstrained) || !pack(states, count)) return Choice::kNot;
  auto* rows = turn().wishes.as<SampleRow>();
  std::fill(rows + count, rows + padded, SampleRow{});
  upload(padded, stream);
  return choiceByWishes();
}

void TokenChooser::enqueue(Choice choice, float* logits, int64_t stride, int64_t padded, const Stream& stream) {
  if (choice != Choice::kNot) sample(choice, fixedLists(), logits, stride, padded, stream);
}

bool TokenChooser::begin(Choice choice, float* logits, int64_t stride, int64_t count,
                         const SamplingState* const* states, const Stream& stream) {
  if (count > room_.rows) return false;
  if (begun_ - ended_ == 2) throw Error("ERR_NATIVE", "tokens of a third step were to be chosen");
  turn().blocked.assign(static_cast<size_t>(count), 0);
  if (choice == Choice::kNot) {
    const bool plain = isPlain(states, count);
    if (!plain && !pack(states, count)) return false;
    const SampleLists lists = plain ? SampleLists{} : upload(count, stream);
    sample(plain ? Choice::kLikeliest : choiceByWishes(), lists, logits, stride, count, stream);
  }
  turn().logprobs.clear();
  for (int64_t i = 0; i < count; ++i) turn().logprobs.push_back(states[i]->params.logprobs);
  check(cudaMemcpyAsync(turn().results.as(), results_.as(), static_cast<size_t>(count) * sizeof(SampleResult),
                        cudaMemcpyDeviceToHost, stream.get()),
        "sampling");
  turn().chosen.record(stream);
  ++begun_;
  return true;
}

void TokenChooser::end(SampledToken* sampled, const Stream& stream) {
  const Turn& turn = turns_[ended_ % 2];
  // What is under way behind them is not waited for.
  if (begun_ - ended_ == 1)
    stream.wait("computing a step");
  else
    turn.chosen.wait("computing a step");
  ++ended_;
  for (size_t i = 0; i < turn.logprobs.size(); ++i) {
    sampled[i] = toToken(turn.results.as<SampleResult>()[i], turn.logprobs[i]);
    if (!sampled[i].finite || turn.blocked[i] == 0) continue;
    sampled[i] = {};
    sampled[i].blocked = true;
  }
}

// Constraints ask the host. A token more asks for no more places in the lists, but for one among the counts, and one is
// for a token that is not known yet.
bool TokenChooser::canLeave(const SamplingState* const* states, int64_t count) const {
  if (count > room_.rows) return false;
  size_t counts = 0, banned = 0, biases = 0;
  for (const SamplingState* state : std::span(states, static_cast<size_t>(count))) {
    const SamplingParams& params = state->params;
    if (!state->constraints.empty() || params.logprobs > kMostLogprobs) return false;
    if (penalizes(params)) counts += state->counts.size() + 2;
    if (bans(*state)) banned += params.stopTokens.size();
    biases += params.biases.size();
  }
  return counts <= room_.counts && banned <= room_.banned && biases <= room_.biases;
}

bool TokenChooser::score(const float* logits, int64_t stride, int64_t count, const ScoreWish* wishes,
                         TokenScore* scores, const Stream& stream) {
  if (count > room_.rows) return false;
  const auto rows = static_cast<size_t>(count);
  for (int64_t i = 0; i < count; ++i) hostScoreRows_.as<ScoreRow>()[i] = {wishes[i].token, wishes[i].top};
  check(cudaMemcpyAsync(scoreRows_.as(), hostScoreRows_.as(), rows * sizeof(ScoreRow), cudaMemcpyHostToDevice,
                        stream.get()),
        "scoring");
  scoreRows(logits, stride, vocab_, count, scoreRows_.as<ScoreRow>(), scores_.as<ScoreResult>(), workspace_.as(),
            stream.get());
  check(
      cudaMemcpyAsync(hostScores_.as(), scores_.as(), rows * sizeof(ScoreResult), cudaMemcpyDeviceToHost, stream.get()),
      "scoring");
  stream.wait("computing a step");
  for (int64_t i = 0; i < count; ++i) {
    const ScoreResult& found = hostScores_.as<ScoreResult>()[i];
    scores[i] = {found.token.finite != 0, found.token.logprob, found.rank, topOf(found.token)};
  }
  return true;
}

std::vector<TokenLogprob> TokenChooser::topOf(const SampleResult& result) {
  std::vector<TokenLogprob> top;
  for (int32_t i = 0; i < std::min(result.topCount, kMostLogprobs); ++i)
    top.push_back({result.top[i].token, result.top[i].logprob});
  return top;
}

SampledToken TokenChooser::toToken(const SampleResult& result, int32_t logprobs) {
  SampledToken token;
  token.finite = result.finite != 0;
  token.token = result.token;
  if (logprobs < 0 || !token.finite) return token;
  token.logprob = result.logprob;
  token.top = topOf(result);
  return token;
}

}  // namespace shardspeed::cuda
