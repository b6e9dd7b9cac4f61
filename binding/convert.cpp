#include "binding/convert.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>

namespace shardspeed {

namespace {

int64_t integer(const Napi::Object& object, const char* key) {
  return object.Get(key).As<Napi::Number>().Int64Value();
}

double number(const Napi::Object& object, const char* key) {
  return object.Get(key).As<Napi::Number>().DoubleValue();
}

std::string text(const Napi::Object& object, const char* key) {
  return object.Get(key).As<Napi::String>().Utf8Value();
}

bool flag(const Napi::Object& object, const char* key) {
  return object.Get(key).As<Napi::Boolean>().Value();
}

template <typename T>
std::vector<T> numbers(const Napi::Object& object, const char* key) {
  const auto array = object.Get(key).As<Napi::Array>();
  std::vector<T> result(array.Length());
  for (uint32_t i = 0; i < array.Length(); ++i)
    result[i] = static_cast<T>(array.Get(i).As<Napi::Number>().DoubleValue());
  return result;
}

std::vector<int32_t> tokens(const Napi::Object& object, const char* key) {
  const auto array = object.Get(key).As<Napi::Int32Array>();
  return {array.Data(), array.Data() + array.ElementLength()};
}

DType toDType(const std::string& name) {
  return name == "float32" ? DType::kF32 : name == "float16" ? DType::kF16 : DType::kBF16;
}

ActivationKind toActivation(const std::string& name) {
  static const std::map<std::string, ActivationKind> kinds = {{"none", ActivationKind::kNone},
                                                              {"relu", ActivationKind::kRelu},
                                                              {"relu_squared", ActivationKind::kReluSquared},
                                                              {"gelu", ActivationKind::kGelu},
                                                              {"gelu_tanh", ActivationKind::kGeluTanh},
                                                              {"quick_gelu", ActivationKind::kQuickGelu},
                                                              {"silu", ActivationKind::kSilu},
                                                              {"tanh", ActivationKind::kTanh},
                                                              {"sigmoid", ActivationKind::kSigmoid}};
  const auto found = kinds.find(name);
  return found == kinds.end() ? ActivationKind::kNone : found->second;
}

RotarySpec toRotary(const Napi::Object& object) {
  RotarySpec rotary;
  rotary.inverseFrequencies = numbers<float>(object, "inverseFrequencies");
  rotary.amplitude = static_cast<float>(number(object, "amplitude"));
  if (object.Get("dynamic").IsObject()) {
    const auto dynamic = object.Get("dynamic").As<Napi::Object>();
    rotary.dynamicOriginalPositions = integer(dynamic, "originalPositions");
    rotary.dynamicBase = number(dynamic, "base");
    rotary.dynamicFactor = number(dynamic, "factor");
  }
  return rotary;
}

ModelSpec toSpec(const Napi::Object& object) {
  ModelSpec spec;
  spec.family = text(object, "family");
  spec.layers = integer(object, "layers");
  spec.vocabSize = integer(object, "vocabSize");
  spec.hiddenSize = integer(object, "hiddenSize");
  spec.embeddingSize = integer(object, "embeddingSize");
  spec.heads = integer(object, "heads");
  spec.kvHeads = integer(object, "kvHeads");
  spec.headDim = integer(object, "headDim");
  spec.ffnSize = integer(object, "ffnSize");
  spec.maxPositions = integer(object, "maxPositions");
  spec.gatedFfn = flag(object, "gatedFfn");
  spec.activation = toActivation(text(object, "activation"));
  spec.norm = text(object, "norm") == "rms" ? NormKind::kRms : NormKind::kLayer;
  spec.normPlacement = text(object, "normPlacement") == "post" ? NormPlacement::kPost : NormPlacement::kPre;
  spec.normEpsilon = static_cast<float>(number(object, "normEpsilon"));
  spec.finalNorm = flag(object, "finalNorm");
  spec.tiedHead = flag(object, "tiedHead");
  const std::string positions = text(object, "positions");
  spec.positions = positions == "learned"  ? PositionKind::kLearned
                   : positions == "rotary" ? PositionKind::kRotary
                                           : PositionKind::kNone;
  spec.positionOffset = integer(object, "positionOffset");
  if (object.Get("rotary").IsObject()) spec.rotary = toRotary(object.Get("rotary").As<Napi::Object>());
  spec.attentionScales = numbers<float>(object, "attentionScales");
  return spec;
}

std::vector<WeightFile> toWeightFiles(const Napi::Array& array) {
  std::vector<WeightFile> files;
  for (uint32_t i = 0; i < array.Length(); ++i) {
    const auto file = array.Get(i).As<Napi::Object>();
    files.push_back({text(file, "path"), integer(file, "bytes")});
  }
  return files;
}

std::vector<WeightView> toWeightViews(const Napi::Array& array) {
  std::vector<WeightView> views;
  for (uint32_t i = 0; i < array.Length(); ++i) {
    const auto weight = array.Get(i).As<Napi::Object>();
    WeightView view;
    view.role = text(weight, "role");
    view.tensor = text(weight, "tensor");
    view.dtype = toDType(text(weight, "dtype"));
    view.file = static_cast<int32_t>(integer(weight, "file"));
    view.byteOffset = integer(weight, "byteOffset");
    view.shape = numbers<int64_t>(weight, "shape");
    view.strides = numbers<int64_t>(weight, "strides");
    if (weight.Has("firstRow")) view.firstRow = integer(weight, "firstRow");
    if (weight.Has("firstCol")) view.firstCol = integer(weight, "firstCol");
    views.push_back(std::move(view));
  }
  return views;
}

WeightPlan toWeightPlan(const Napi::Object& object) {
  return {toWeightFiles(object.Get("files").As<Napi::Array>()), toWeightViews(object.Get("weights").As<Napi::Array>())};
}

ProcessGroupOptions toProcessGroup(const Napi::Object& object, const EngineOptions& options) {
  ProcessGroupOptions group;
  group.rank = options.firstRank;
  group.size = options.tpSize;
  group.listener = static_cast<int>(integer(object, "listener"));
  group.leaderHost = text(object, "leaderHost");
  group.leaderPort = static_cast<uint16_t>(integer(object, "leaderPort"));
  const auto key = object.Get("key").As<Napi::Uint8Array>();
  std::copy_n(key.Data(), std::min(key.ElementLength(), group.key.size()), group.key.begin());
  group.silenceLimitMs = integer(object, "silenceLimitMs");
  // All have just been heard of: one that does not connect now is as lost as one that falls silent later.
  group.connectLimitMs = group.silenceLimitMs;
  return group;
}

// Hands the memory over instead of copying it; a runtime that refuses foreign memory gets a copy.
Napi::Value toFloat32Array(Napi::Env env, std::vector<float>&& values) {
  const size_t count = values.size();
  auto* kept = new std::vector<float>(std::move(values));
  napi_value buffer = nullptr;
  const napi_status status = napi_create_external_arraybuffer(
      env, kept->data(), count * sizeof(float),
      [](napi_env, void*, void* hint) { delete static_cast<std::vector<float>*>(hint); }, kept, &buffer);
  if (status == napi_ok) return Napi::Float32Array::New(env, count, Napi::ArrayBuffer(env, buffer), 0);
  auto copy = Napi::Float32Array::New(env, count);
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

}  // namespace

EngineOptions toEngineOptions(const Napi::Object& plan) {
  EngineOptions options;
  options.spec = toSpec(plan.Get("spec").As<Napi::Object>());
  if (plan.Get("weights").IsObject()) options.plan = toWeightPlan(plan.Get("weights").As<Napi::Object>());
  options.dtype = toDType(text(plan, "dtype"));
  options.tpSize = static_cast<int>(integer(plan, "tpSize"));
  options.firstRank = static_cast<int>(integer(plan, "firstRank"));
  options.devices.clear();
  const auto devices = plan.Get("devices").As<Napi::Array>();
  for (uint32_t i = 0; i < devices.Length(); ++i)
    options.devices.push_back(devices.Get(i).As<Napi::String>().Utf8Value());
  if (plan.Get("group").IsObject()) options.processes = toProcessGroup(plan.Get("group").As<Napi::Object>(), options);
  options.threads = static_cast<int>(integer(plan, "threads"));
  options.maxSequenceTokens = integer(plan, "maxSequenceTokens");
  options.maxBatchTokens = integer(plan, "maxBatchTokens");
  if (plan.Has("kvCachePages")) options.kvCachePages = integer(plan, "kvCachePages");
  return options;
}

std::unique_ptr<Sequence> toSequence(const Napi::Object& request) {
  SamplingParams params;
  params.temperature = static_cast<float>(number(request, "temperature"));
  params.topK = static_cast<int32_t>(integer(request, "topK"));
  params.topP = static_cast<float>(number(request, "topP"));
  params.minP = static_cast<float>(number(request, "minP"));
  params.repetitionPenalty = static_cast<float>(number(request, "repetitionPenalty"));
  params.presencePenalty = static_cast<float>(number(request, "presencePenalty"));
  params.frequencyPenalty = static_cast<float>(number(request, "frequencyPenalty"));
  params.seed =
      (static_cast<uint64_t>(number(request, "seedHigh")) << 32) | static_cast<uint64_t>(number(request, "seedLow"));
  params.minNewTokens = static_cast<int32_t>(integer(request, "minNewTokens"));
  params.stopTokens = tokens(request, "stopTokens");
  params.logprobs = static_cast<int32_t>(integer(request, "logprobs"));
  auto sequence = std::make_unique<Sequence>(integer(request, "id"), tokens(request, "tokens"),
                                             integer(request, "maxNewTokens"), std::move(params));
  sequence->forward = flag(request, "forward");
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
    case EventKind::kToken:
      addToken(env, object, event);
      break;
    case EventKind::kDone:
      object.Set("kind", "done");
      object.Set("reason", reasonName(event.reason));
      break;
    case EventKind::kLogits:
      object.Set("kind", "logits");
      object.Set("logits", toFloat32Array(env, std::move(event.logits)));
      break;
  }
  return object;
}

WritePlan toWritePlan(const Napi::Object& object) {
  WritePlan plan;
  plan.path = text(object, "path");
  const auto header = object.Get("header").As<Napi::Uint8Array>();
  plan.header.assign(reinterpret_cast<const char*>(header.Data()), header.ElementLength());
  plan.files = toWeightFiles(object.Get("files").As<Napi::Array>());
  const auto tensors = object.Get("tensors").As<Napi::Array>();
  for (uint32_t i = 0; i < tensors.Length(); ++i) {
    const auto tensor = tensors.Get(i).As<Napi::Object>();
    plan.tensors.push_back({integer(tensor, "rows"), integer(tensor, "cols"), toDType(text(tensor, "dtype")),
                            toWeightViews(tensor.Get("views").As<Napi::Array>())});
  }
  return plan;
}

Napi::Object toObject(Napi::Env env, const EngineStats& stats) {
  auto object = Napi::Object::New(env);
  const std::pair<const char*, int64_t> fields[] = {{"running", stats.running},
                                                    {"waiting", stats.waiting},
                                                    {"kvPagesTotal", stats.kvPagesTotal},
                                                    {"kvPagesFree", stats.kvPagesFree},
                                                    {"steps", stats.steps},
                                                    {"promptTokens", stats.promptTokens},
                                                    {"generatedTokens", stats.generatedTokens},
                                                    {"preemptions", stats.preemptions}};
  for (const auto& [name, value] : fields) object.Set(name, static_cast<double>(value));
  object.Set("stepMs", static_cast<double>(stats.stepNanoseconds) / 1e6);
  object.Set("groupMs", static_cast<double>(stats.groupNanoseconds) / 1e6);
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
