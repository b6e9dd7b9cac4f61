#include "binding/convert.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "binding/grammar.h"
#include "binding/object_reader.h"
#include "runtime/beam_group.h"
#include "runtime/listed_tokens.h"

// Converts requests of JavaScript to sequences.

namespace shardspeed {

namespace {

constexpr int64_t kLargest = (int64_t{1} << 53) - 1;  // integer that JavaScript can tell from its neighbours
constexpr int64_t kLargest32 = std::numeric_limits<uint32_t>::max();
constexpr int64_t kLargestInt32 = std::numeric_limits<int32_t>::max();

float real(const ValueReader& value) {
  return static_cast<float>(value.number());
}

void checkIds(const ValueReader& value, const std::vector<int32_t>& ids, int64_t count) {
  if (!std::all_of(ids.begin(), ids.end(), [&](int32_t id) { return id >= 0 && id < count; }))
    value.refuse("ids from 0 to " + std::to_string(count - 1));
}

// The types of a request's tokens. Empty where the request says nothing: all tokens have type 0.
std::vector<int32_t> readTokenTypes(const ValueReader& value, int64_t tokens, int64_t count) {
  if (value.absent()) return {};
  std::vector<int32_t> types = value.int32Array();
  if (count == 0) value.refuse("null: the model has no token types");
  if (static_cast<int64_t>(types.size()) != tokens) value.refuse(std::to_string(tokens) + " types, one for each token");
  checkIds(value, types, count);
  return types;
}

// Tokens and what is added to their logits.
std::vector<TokenBias> readBiases(const ValueReader& tokens, const ValueReader& values, int64_t vocab) {
  std::vector<TokenBias> biases;
  const std::vector<int32_t> ids = tokens.int32Array();
  checkIds(tokens, ids, vocab);
  if (std::set<int32_t>(ids.begin(), ids.end()).size() != ids.size()) tokens.refuse("different tokens");
  const std::vector<ValueReader> numbers = values.list();
  if (numbers.size() != ids.size()) values.refuse("a number for each of biasTokens");
  for (size_t i = 0; i < ids.size(); ++i) biases.push_back({ids[i], real(numbers[i])});
  return biases;
}

uint64_t readSeed(ObjectReader& object) {
  const auto high = static_cast<uint64_t>(object["seedHigh"].integer(0, kLargest32));
  return high << 32 | static_cast<uint64_t>(object["seedLow"].integer(0, kLargest32));
}

// Null where the request lists no tokens.
std::unique_ptr<ListedTokens> readListedTokens(ObjectReader& request, const std::vector<int32_t>& prompt,
                                               int64_t vocab) {
  const ValueReader allowed = request["allowedTokens"], words = request["badWords"];
  const std::vector<int32_t> ids = allowed.int32Array();
  checkIds(allowed, ids, vocab);
  std::vector<std::vector<int32_t>> badWords;
  for (const ValueReader& word : words.list()) {
    badWords.push_back(word.int32Array());
    if (badWords.back().empty()) word.refuse("at least one token");
    checkIds(word, badWords.back(), vocab);
  }
  if (ids.empty() && badWords.empty()) return nullptr;
  return std::make_unique<ListedTokens>(vocab, ids, std::move(badWords), prompt);
}

// More samples of a request's prompt: the same request with seeds of their own.
std::vector<std::unique_ptr<Sequence>> readForks(const ValueReader& value, const Sequence& first) {
  std::vector<std::unique_ptr<Sequence>> forks;
  const std::vector<ValueReader> list = value.list();
  if (!list.empty() && first.wanted != Wanted::kTokens) value.refuse("none, where no tokens are wanted");
  for (const ValueReader& one : list) {
    ObjectReader fork(one);
    SamplingParams params = first.sampler.params();
    params.seed = readSeed(fork);
    const int64_t id = fork["id"].integer(0, kLargest);
    fork.finish();
    auto sequence = std::make_unique<Sequence>(id, first.tokens, first.maxNewTokens, std::move(params));
    sequence->sampler.constrainAs(first.sampler);
    sequence->speculates = first.speculates;
    sequence->cacheSalt = first.cacheSalt;
    sequence->tokenTypes = first.tokenTypes;
    forks.push_back(std::move(sequence));
  }
  return forks;
}

// The samples become the texts that the search finds.
void readBeams(const ValueReader& value, Sequence& sequence) {
  constexpr int64_t kMost = 128;
  if (sequence.wanted != Wanted::kTokens) value.refuse("null, where no tokens are wanted");
  ObjectReader object(value);
  BeamParams params;
  params.beams = object["beams"].integer(1, kMost);
  params.lengthPenalty = real(object["lengthPenalty"]);
  params.earlyStopping = object["earlyStopping"].choice<EarlyStopping>(
      {{"no", EarlyStopping::kNo}, {"yes", EarlyStopping::kYes}, {"never", EarlyStopping::kNever}});
  object.finish();
  std::vector<int64_t> ids = {sequence.id};
  for (const auto& fork : sequence.forks) ids.push_back(fork->id);
  if (static_cast<int64_t>(ids.size()) > params.beams) value.refuse("as many beams as texts, or more");
  if (sequence.maxNewTokens == 0) value.refuse("null, where no new tokens are wanted");
  sequence.forks.clear();
  sequence.speculates = false;
  sequence.beams = std::make_shared<BeamGroup>(params, sequence, std::move(ids));
}

}  // namespace

std::unique_ptr<Sequence> toSequence(const Napi::Value& value, const ModelSpec& spec, int64_t maxTokens) {
  ObjectReader request(value, "request");
  SamplingParams params;
  params.temperature = real(request["temperature"]);
  params.topK = static_cast<int32_t>(request["topK"].integer(0, kLargestInt32));
  params.topP = real(request["topP"]);
  params.minP = real(request["minP"]);
  params.repetitionPenalty = real(request["repetitionPenalty"]);
  params.presencePenalty = real(request["presencePenalty"]);
  params.frequencyPenalty = real(request["frequencyPenalty"]);
  params.seed = readSeed(request);
  params.minNewTokens = static_cast<int32_t>(request["minNewTokens"].integer(0, kLargestInt32));
  params.stopTokens = request["stopTokens"].int32Array();
  params.logprobs = static_cast<int32_t>(request["logprobs"].integer(-1, kLargestInt32));
  const ValueReader promptLogprobs = request["promptLogprobs"];
  const auto scored = static_cast<int32_t>(promptLogprobs.integer(-1, kMostScored));
  const bool speculates = request["speculates"].flag();
  std::string cacheSalt = request["cacheSalt"].text();
  const ValueReader wants = request["wanted"];
  const auto wanted = wants.choice<Wanted>({{"tokens", Wanted::kTokens},
                                            {"head", Wanted::kHead},
                                            {"hidden", Wanted::kHidden},
                                            {"hidden and head", Wanted::kHiddenAndHead}});
  if (wanted == Wanted::kTokens && !makesTokens(spec)) wants.refuse("outputs, of a model that makes no tokens");
  if (wanted != Wanted::kTokens && scored >= 0) promptLogprobs.refuse("-1, where no tokens are wanted");
  std::vector<Pooling> poolings;
  for (const ValueReader& pooling : request["poolings"].list())
    poolings.push_back(pooling.choice<Pooling>({{"first", Pooling::kFirst},
                                                {"last", Pooling::kLast},
                                                {"mean", Pooling::kMean},
                                                {"max", Pooling::kMax},
                                                {"mean sqrt length", Pooling::kMeanSqrtLength},
                                                {"weighted mean", Pooling::kWeightedMean}}));
  const int64_t id = request["id"].integer(0, kLargest);
  const ValueReader tokens = request["tokens"], newTokens = request["maxNewTokens"];
  std::vector<int32_t> prompt = tokens.int32Array();
  const auto length = static_cast<int64_t>(prompt.size());
  if (length == 0 || length > maxTokens) tokens.refuse("1 to " + std::to_string(maxTokens) + " tokens");
  checkIds(tokens, prompt, spec.vocabSize);
  const int64_t most = newTokens.integer(0, wanted == Wanted::kTokens ? maxTokens - length : kLargest);
  std::vector<int32_t> types = readTokenTypes(request["tokenTypes"], length, spec.embedding.tokenTypes);
  const int64_t poolFrom = request["poolFrom"].integer(0, length - 1);
  params.biases = readBiases(request["biasTokens"], request["biases"], spec.vocabSize);
  std::unique_ptr<ListedTokens> listed = readListedTokens(request, prompt, spec.vocabSize);
  std::unique_ptr<TokenConstraint> grammar = toGrammarConstraint(request["grammar"], params.stopTokens, spec.vocabSize);
  auto sequence = std::make_unique<Sequence>(id, std::move(prompt), most, std::move(params));
  if (listed) sequence->sampler.constrain(std::move(listed));
  if (grammar) sequence->sampler.constrain(std::move(grammar));
  sequence->wanted = wanted;
  sequence->speculates = speculates;
  sequence->cacheSalt = std::move(cacheSalt);
  sequence->promptLogprobs = scored;
  sequence->poolings = std::move(poolings);
  sequence->poolFrom = poolFrom;
  sequence->tokenTypes = std::move(types);
  sequence->forks = readForks(request["forks"], *sequence);
  if (const ValueReader beams = request["beams"]; !beams.absent()) readBeams(beams, *sequence);
  request.finish();
  return sequence;
}

}  // namespace shardspeed
