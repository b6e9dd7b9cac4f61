#include "binding/convert.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <set>
#include <string>
#include <utility>

#include "binding/grammar.h"
#include "binding/object_reader.h"
#include "binding/spec.h"
#include "comm/group.h"
#include "runtime/beam_group.h"
#include "runtime/listed_tokens.h"

namespace shardspeed {

namespace {

constexpr int64_t kLargest = (int64_t{1} << 53) - 1;  // integer that JavaScript can tell from its neighbours
constexpr int64_t kMostPages = std::numeric_limits<int32_t>::max();
constexpr int64_t kMostThreads = 1024;
constexpr int64_t kMostRows = 65535;  // of a step
constexpr int64_t kMostPort = 65535;
constexpr int64_t kLargest32 = std::numeric_limits<uint32_t>::max();
constexpr int64_t kLargestInt32 = std::numeric_limits<int32_t>::max();

std::vector<int64_t> integers(const ValueReader& value) {
  std::vector<int64_t> result;
  for (const ValueReader& one : value.list()) result.push_back(one.integer(0, kLargest));
  return result;
}

std::vector<WeightFile> readWeightFiles(const ValueReader& value) {
  std::vector<WeightFile> files;
  for (const ValueReader& one : value.list()) {
    ObjectReader file(one);
    std::string path = file["path"].text();
    files.push_back({std::move(path), file["bytes"].integer(0, kLargest)});
    file.finish();
  }
  return files;
}

WeightView readWeightView(const ValueReader& value, size_t files) {
  ObjectReader weight(value);
  WeightView view;
  view.role = weight["role"].text();
  view.tensor = weight["tensor"].text();
  view.dtype = readStoredDType(weight["dtype"]);
  view.file = static_cast<int32_t>(weight["file"].integer(0, static_cast<int64_t>(files) - 1));
  view.byteOffset = weight["byteOffset"].integer(0, kLargest);
  const ValueReader shape = weight["shape"], strides = weight["strides"];
  view.shape = integers(shape);
  view.strides = integers(strides);
  if (view.shape.empty()) shape.refuse("one dimension or more");
  if (view.shape.size() != view.strides.size()) strides.refuse("a number for each dimension of the shape");
  const ValueReader row = weight["firstRow"], col = weight["firstCol"];
  if (!row.absent()) view.firstRow = row.integer(0, kLargest);
  if (!col.absent()) view.firstCol = col.integer(0, kLargest);
  weight.finish();
  return view;
}

std::vector<WeightView> readWeightViews(const ValueReader& value, size_t files) {
  std::vector<WeightView> views;
  for (const ValueReader& one : value.list()) views.push_back(readWeightView(one, files));
  return views;
}

std::vector<LowRankAddition> readAdditions(const ValueReader& value, size_t files) {
  std::vector<LowRankAddition> additions;
  for (const ValueReader& one : value.list()) {
    ObjectReader object(one);
    LowRankAddition addition;
    addition.role = object["role"].text();
    addition.scale = static_cast<float>(object["scale"].number());
    addition.left = readWeightView(object["left"], files);
    addition.right = readWeightView(object["right"], files);
    const ValueReader magnitude = object["magnitude"];
    if (!magnitude.absent()) addition.magnitude = readWeightView(magnitude, files);
    object.finish();
    additions.push_back(std::move(addition));
  }
  return additions;
}

WeightPlan readWeightPlan(const ValueReader& value) {
  ObjectReader object(value);
  WeightPlan plan;
  plan.files = readWeightFiles(object["files"]);
  plan.weights = readWeightViews(object["weights"], plan.files.size());
  const ValueReader additions = object["additions"];
  if (!additions.absent()) plan.additions = readAdditions(additions, plan.files.size());
  object.finish();
  return plan;
}

LookupOptions readLookup(const ValueReader& value) {
  constexpr int64_t kMost = 1024;
  ObjectReader object(value);
  LookupOptions lookup;
  lookup.draftTokens = object["draftTokens"].integer(1, kMost);
  lookup.minMatch = object["minMatch"].integer(1, kMost);
  lookup.maxMatch = object["maxMatch"].integer(lookup.minMatch, kMost);
  object.finish();
  return lookup;
}

ProcessGroupOptions readProcessGroup(const ValueReader& value, const EngineOptions& options) {
  ObjectReader object(value);
  ProcessGroupOptions group;
  group.rank = options.firstRank;
  group.size = options.tpSize;
  group.listener = static_cast<int>(object["listener"].integer(-1, kLargestInt32));
  group.leaderHost = object["leaderHost"].text();
  group.leaderPort = static_cast<uint16_t>(object["leaderPort"].integer(0, kMostPort));
  const ValueReader key = object["key"];
  const std::vector<uint8_t> bytes = key.bytes();
  if (bytes.size() != group.key.size()) key.refuse(std::to_string(group.key.size()) + " bytes");
  std::copy(bytes.begin(), bytes.end(), group.key.begin());
  group.silenceLimitMs = object["silenceLimitMs"].integer(0, kLargestInt32);
  // All have just been heard of: one that does not connect now is as lost as one that falls silent later.
  group.connectLimitMs = group.silenceLimitMs;
  object.finish();
  return group;
}

std::string readDevice(const ValueReader& value) {
  constexpr size_t kMostDigits = 4;
  const std::string name = value.text();
  const std::string kind = "cuda:";
  const std::string index = name.rfind(kind, 0) == 0 ? name.substr(kind.size()) : "";
  const bool isIndex = !index.empty() && index.size() <= kMostDigits &&
                       std::all_of(index.begin(), index.end(), [](char digit) { return digit >= '0' && digit <= '9'; });
  if (name != "cpu" && !isIndex) value.refuse("\"cpu\", or \"cuda:\" and the index of a device");
  return name;
}

std::vector<std::string> readDevices(const ValueReader& value) {
  std::vector<std::string> devices;
  for (const ValueReader& device : value.list()) devices.push_back(readDevice(device));
  if (devices.empty() || devices.size() > kMostRanks) value.refuse("1 to " + std::to_string(kMostRanks) + " devices");
  return devices;
}

float real(const ValueReader& value) {
  return static_cast<float>(value.number());
}

// Hands the memory over instead of copying it; a runtime that refuses foreign memory gets a copy.
template <typename TypedArray, typename T>
Napi::Value toTypedArray(Napi::Env env, std::vector<T>&& values) {
  const size_t count = values.size();
  auto* kept = new std::vector<T>(std::move(values));
  napi_value buffer = nullptr;
  const napi_status status = napi_create_external_arraybuffer(
      env, kept->data(), count * sizeof(T),
      [](napi_env, void*, void* hint) { delete static_cast<std::vector<T>*>(hint); }, kept, &buffer);
  if (status == napi_ok) return TypedArray::New(env, count, Napi::ArrayBuffer(env, buffer), 0);
  auto copy = TypedArray::New(env, count);
  std::copy(kept->begin(), kept->end(), copy.Data());
  delete kept;
  return copy;
}

const char* reasonName(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    default:
      return "cancelled";
  }
}

void addToken(Napi::Env env, Napi::Object& object, const Event& event) {
  object.Set("kind", "token");
  object.Set("token", event.sampled.token);
  if (event.cachedTokens) object.Set("cachedTokens", static_cast<double>(*event.cachedTokens));
  if (!event.hasLogprob) return;
  object.Set("logprob", event.sampled.logprob);
  auto top = Napi::Array::New(env, event.sampled.top.size());
  for (uint32_t i = 0; i < event.sampled.top.size(); ++i) {
    auto entry = Napi::Object::New(env);
    entry.Set("id", event.sampled.top[i].token);
    entry.Set("logprob", event.sampled.top[i].logprob);
    top.Set(i, entry);
  }
  object.Set("top", top);
}

Napi::Array toCounts(Napi::Env env, const std::map<std::string, int64_t>& counts) {
  auto list = Napi::Array::New(env);
  for (const auto& [tensor, count] : counts) {
    auto entry = Napi::Object::New(env);
    entry.Set("tensor", tensor);
    entry.Set("count", static_cast<double>(count));
    list.Set(list.Length(), entry);
  }
  return list;
}

}  // namespace

static EngineOptions readRankPlan(ObjectReader& plan) {
  EngineOptions options;
  options.spec = readSpec(plan.object("spec"));
  options.dtype = readDType(plan["dtype"]);
  options.tpSize =
      static_cast<int>(plan["tpSize"].integer(1, std::min<int64_t>(kMostRanks, largestGroup(options.spec))));
  const ValueReader devices = plan["devices"];
  options.devices = readDevices(devices);
  const auto here = static_cast<int>(options.devices.size());
  if (here != 1 && here != options.tpSize) devices.refuse("one device, or one for each of tpSize ranks");
  options.firstRank = static_cast<int>(plan["firstRank"].integer(0, options.tpSize - here));
  options.threads = static_cast<int>(plan["threads"].integer(1, kMostThreads));
  options.maxSequenceTokens = plan["maxSequenceTokens"].integer(1, options.spec.maxPositions);
  options.maxBatchTokens = plan["maxBatchTokens"].integer(1, kMostRows);
  return options;
}

EngineOptions toRankOptions(const Napi::Value& value) {
  ObjectReader plan(value, "plan");
  EngineOptions options = readRankPlan(plan);
  plan.finish();
  return options;
}

static bool makesTokens(const ModelSpec& spec) {
  return std::holds_alternative<LogitsOutput>(spec.output) && !seesLater(spec);
}

// A model to make drafts with, and how long these are.
static void readDraft(ObjectReader draft, EngineOptions& options) {
  constexpr int64_t kMost = 1024;
  options.draftTokens = draft["draftTokens"].integer(1, kMost);
  ObjectReader plan = draft.object("model");
  EngineOptions model = readRankPlan(plan);
  const ValueReader weights = plan["weights"];
  if (!weights.absent()) model.plan = readWeightPlan(weights);
  model.kvCachePages = plan["kvCachePages"].integer(1, kMostPages);
  if (model.devices != std::vector<std::string>{"cpu"} || model.tpSize != 1) draft["model"].refuse("a rank on the CPU");
  if (!makesTokens(model.spec) || model.spec.vocabSize != options.spec.vocabSize)
    draft["model"].refuse("a model that makes tokens of the same vocabulary");
  plan.finish();
  draft.finish();
  options.draftModel = std::make_shared<const EngineOptions>(std::move(model));
}

EngineOptions toEngineOptions(const Napi::Value& value) {
  ObjectReader plan(value, "plan");
  EngineOptions options = readRankPlan(plan);
  if (seesLater(options.spec) && options.maxBatchTokens < options.maxSequenceTokens)
    plan["maxBatchTokens"].refuse("maxSequenceTokens or more, where tokens see later ones");
  const ValueReader weights = plan["weights"], group = plan["group"];
  if (!weights.absent()) options.plan = readWeightPlan(weights);
  if (!group.absent()) options.processes = readProcessGroup(group, options);
  if (static_cast<int>(options.devices.size()) != (options.processes ? 1 : options.tpSize))
    group.refuse(options.processes ? "null where this process has several ranks" : "how this process meets the others");
  options.kvCachePages = plan["kvCachePages"].integer(0, kMostPages);
  if (const ValueReader lookup = plan["lookup"]; !lookup.absent()) options.lookup = readLookup(lookup);
  options.prefixCache = plan["prefixCache"].flag();
  if (const ValueReader draft = plan["draft"]; !draft.absent()) readDraft(ObjectReader(draft), options);
  options.weighsDrafts = plan["weighsDrafts"].flag();
  plan.finish();
  return options;
}

static void checkIds(const ValueReader& value, const std::vector<int32_t>& ids, int64_t count) {
  if (!std::all_of(ids.begin(), ids.end(), [&](int32_t id) { return id >= 0 && id < count; }))
    value.refuse("ids from 0 to " + std::to_string(count - 1));
}

// The types of a request's tokens. Empty where the request says nothing: all tokens have type 0.
static std::vector<int32_t> readTokenTypes(const ValueReader& value, int64_t tokens, int64_t count) {
  if (value.absent()) return {};
  std::vector<int32_t> types = value.int32Array();
  if (count == 0) value.refuse("null: the model has no token types");
  if (static_cast<int64_t>(types.size()) != tokens) value.refuse(std::to_string(tokens) + " types, one for each token");
  checkIds(value, types, count);
  return types;
}

// Tokens and what is added to their logits.
static std::vector<TokenBias> readBiases(const ValueReader& tokens, const ValueReader& values, int64_t vocab) {
  std::vector<TokenBias> biases;
  const std::vector<int32_t> ids = tokens.int32Array();
  checkIds(tokens, ids, vocab);
  if (std::set<int32_t>(ids.begin(), ids.end()).size() != ids.size()) tokens.refuse("different tokens");
  const std::vector<ValueReader> numbers = values.list();
  if (numbers.size() != ids.size()) values.refuse("a number for each of biasTokens");
  for (size_t i = 0; i < ids.size(); ++i) biases.push_back({ids[i], real(numbers[i])});
  return biases;
}

static uint64_t readSeed(ObjectReader& object) {
  const auto high = static_cast<uint64_t>(object["seedHigh"].integer(0, kLargest32));
  return high << 32 | static_cast<uint64_t>(object["seedLow"].integer(0, kLargest32));
}

// Null where the request lists no tokens.
static std::unique_ptr<ListedTokens> readListedTokens(ObjectReader& request, const std::vector<int32_t>& prompt,
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
static std::vector<std::unique_ptr<Sequence>> readForks(const ValueReader& value, const Sequence& first) {
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
static void readBeams(const ValueReader& value, Sequence& sequence) {
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

Napi::Object toObject(Napi::Env env, Event& event) {
  auto object = Napi::Object::New(env);
  object.Set("id", static_cast<double>(event.id));
  switch (event.kind) {
    case EventKind::kProgress:
      object.Set("kind", "progress");
      object.Set("loadedBytes", static_cast<double>(event.loadedBytes));
      object.Set("totalBytes", static_cast<double>(event.totalBytes));
      break;
    case EventKind::kReady:
      object.Set("kind", "ready");
      object.Set("loadMs", event.loadMs);
      object.Set("overflows", toCounts(env, event.overflows));
      break;
    case EventKind::kFailed:
      object.Set("kind", "failed");
      object.Set("code", event.code);
      object.Set("message", event.message);
      break;
    case EventKind::kEnded:
      object.Set("kind", "ended");
      break;
    case EventKind::kRejected:
      object.Set("kind", "rejected");
      object.Set("code", event.code);
      object.Set("message", event.message);
      break;
    case EventKind::kPrompt:
      object.Set("kind", "prompt");
      object.Set("logprobs", toTypedArray<Napi::Float32Array>(env, std::move(event.prompt.logprobs)));
      object.Set("ranks", toTypedArray<Napi::Int32Array>(env, std::move(event.prompt.ranks)));
      object.Set("topTokens", toTypedArray<Napi::Int32Array>(env, std::move(event.prompt.topTokens)));
      object.Set("topLogprobs", toTypedArray<Napi::Float32Array>(env, std::move(event.prompt.topLogprobs)));
      break;
    case EventKind::kToken:
      addToken(env, object, event);
      break;
    case EventKind::kDone:
      object.Set("kind", "done");
      object.Set("reason", reasonName(event.reason));
      if (event.score) object.Set("score", *event.score);
      break;
    case EventKind::kOutputs:
      object.Set("kind", "outputs");
      object.Set("outputs", toTypedArray<Napi::Float32Array>(env, std::move(event.outputs)));
      object.Set("hidden", toTypedArray<Napi::Float32Array>(env, std::move(event.hidden)));
      break;
  }
  return object;
}

WritePlan toWritePlan(const Napi::Value& value) {
  ObjectReader object(value, "plan");
  WritePlan plan;
  plan.path = object["path"].text();
  const std::vector<uint8_t> header = object["header"].bytes();
  plan.header.assign(header.begin(), header.end());
  plan.files = readWeightFiles(object["files"]);
  for (const ValueReader& one : object["tensors"].list()) {
    ObjectReader tensor(one);
    WrittenTensor& written = plan.tensors.emplace_back();
    written.rows = tensor["rows"].integer(0, kLargest);
    written.cols = tensor["cols"].integer(0, kLargest);
    written.dtype = readDType(tensor["dtype"]);
    written.views = readWeightViews(tensor["views"], plan.files.size());
    tensor.finish();
  }
  object.finish();
  return plan;
}

Napi::Object toObject(Napi::Env env, const EngineStats& stats) {
  auto object = Napi::Object::New(env);
  const std::pair<const char*, int64_t> fields[] = {{"running", stats.running},
                                                    {"waiting", stats.waiting},
                                                    {"kvPagesTotal", stats.kvPagesTotal},
                                                    {"kvPagesFree", stats.kvPagesFree},
                                                    {"kvPagesFindable", stats.kvPagesFindable},
                                                    {"prefixQueries", stats.prefixQueries},
                                                    {"prefixHits", stats.prefixHits},
                                                    {"steps", stats.steps},
                                                    {"promptTokens", stats.promptTokens},
                                                    {"generatedTokens", stats.generatedTokens},
                                                    {"preemptions", stats.preemptions},
                                                    {"drafts", stats.drafts},
                                                    {"draftTokens", stats.draftTokens},
                                                    {"acceptedTokens", stats.acceptedTokens}};
  for (const auto& [name, value] : fields) object.Set(name, static_cast<double>(value));
  object.Set("stepMs", static_cast<double>(stats.stepNanoseconds) / 1e6);
  object.Set("groupMs", static_cast<double>(stats.groupNanoseconds) / 1e6);
  auto acceptedAt = Napi::Array::New(env, stats.acceptedAt.size());
  for (uint32_t i = 0; i < stats.acceptedAt.size(); ++i) acceptedAt.Set(i, static_cast<double>(stats.acceptedAt[i]));
  object.Set("acceptedAt", acceptedAt);
  auto memory = Napi::Array::New(env, stats.memory.size());
  for (uint32_t i = 0; i < stats.memory.size(); ++i) {
    auto rank = Napi::Object::New(env);
    rank.Set("weightBytes", static_cast<double>(stats.memory[i].weightBytes));
    rank.Set("kvCacheBytes", static_cast<double>(stats.memory[i].kvCacheBytes));
    rank.Set("activationBytes", static_cast<double>(stats.memory[i].activationBytes));
    memory.Set(i, rank);
  }
  object.Set("memory", memory);
  return object;
}

Napi::Array toArray(Napi::Env env, const std::vector<MemoryEstimate>& estimates) {
  auto array = Napi::Array::New(env, estimates.size());
  for (uint32_t i = 0; i < estimates.size(); ++i) {
    auto object = Napi::Object::New(env);
    object.Set("weightBytes", static_cast<double>(estimates[i].weightBytes));
    object.Set("activationBytes", static_cast<double>(estimates[i].activationBytes));
    object.Set("kvPageBytes", static_cast<double>(estimates[i].kvPageBytes));
    array.Set(i, object);
  }
  return array;
}

}  // namespace shardspeed
