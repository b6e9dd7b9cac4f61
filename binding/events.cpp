#include "binding/convert.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

// Converts the events and statistics of an engine to JavaScript objects.

namespace shardspeed {

namespace {

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
