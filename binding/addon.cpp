#include <napi.h>

#include <string>

#include "binding/convert.h"
#include "binding/cuda.h"
#include "binding/engine.h"
#include "binding/grammar.h"
#include "binding/guard.h"
#include "binding/writer.h"
#include "cpu/cpu_features.h"
#include "cpu/measure.h"
#include "model/layout.h"
#include "runtime/unsupported.h"

// All functions of the addon, as lib/native/binding.ts declares them.

namespace shardspeed {

static Napi::Value createEngine(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const auto* constructor = info.Env().GetInstanceData<Napi::FunctionReference>();
    return constructor->New({info[0], info[1]});
  });
}

static Napi::Value estimate(const Napi::CallbackInfo& info) {
  return guarded(info.Env(),
                 [&]() -> Napi::Value { return toArray(info.Env(), estimateMemory(toRankOptions(info[0]))); });
}

// lib/native/binding.ts, unsupported.
static Napi::Value findUnsupported(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const std::optional<std::string> found = unsupported(toRankOptions(info[0]));
    return found ? Napi::String::New(info.Env(), *found) : info.Env().Null();
  });
}

// Rows and columns that the first rank in this process holds of each matrix, by role: lib/native/binding.ts,
// shardShapes.
static Napi::Value shardShapes(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const EngineOptions options = toRankOptions(info[0]);
    const Shard shard = shardOf(options.spec, options.firstRank, options.tpSize);
    auto shapes = Napi::Object::New(info.Env());
    for (const MatrixLayout& layout : modelLayouts(options.spec, shard)) {
      for (const MatrixPart& part : layout.parts) {
        auto shape = Napi::Array::New(info.Env(), 2);
        shape.Set(0u, static_cast<double>(part.source.count));
        shape.Set(1u, static_cast<double>(layout.source.count));
        shapes.Set(part.role, shape);
      }
    }
    for (const VectorLayout& layout : vectorLayouts(options.spec, shard)) {
      auto shape = Napi::Array::New(info.Env(), 2);
      shape.Set(0u, 1.0);
      shape.Set(1u, static_cast<double>(layout.held.count));
      shapes.Set(layout.role, shape);
    }
    return shapes;
  });
}

static Napi::Value openListener(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const ControlListener listener = openControlListener(info[0].As<Napi::String>().Utf8Value());
    auto result = Napi::Object::New(info.Env());
    result.Set("descriptor", listener.descriptor);
    result.Set("port", listener.port);
    return result;
  });
}

static Napi::Value closeListener(const Napi::CallbackInfo& info) {
  closeControlListener(info[0].As<Napi::Number>().Int32Value());
  return info.Env().Undefined();
}

static Napi::Value readBandwidth(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return Napi::Number::New(info.Env(),
                             measureReadBandwidth(static_cast<size_t>(info[0].As<Napi::Number>().Int64Value()),
                                                  info[1].As<Napi::Number>(), info[2].As<Napi::Number>()));
  });
}

static Napi::Value fmaPeak(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return Napi::Number::New(info.Env(), measureFmaPeak(info[0].As<Napi::Number>(), info[1].As<Napi::Number>()));
  });
}

static Napi::Value allReduceSeconds(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return Napi::Number::New(info.Env(),
                             measureAllReduce(info[0].As<Napi::Number>(), info[1].As<Napi::Number>().Int64Value(),
                                              info[2].As<Napi::Number>()));
  });
}

static Napi::Value copySeconds(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return Napi::Number::New(info.Env(),
                             measureCopy(info[0].As<Napi::Number>().Int64Value(), info[1].As<Napi::Number>()));
  });
}

static Napi::Value attentionTimes(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const auto given = info[0].As<Napi::Object>();
    const auto count = [&](const char* key) { return given.Get(key).As<Napi::Number>().Int64Value(); };
    const AttentionSize size{{count("heads"), count("kvHeads"), count("headDim")},
                             count("layers"),
                             count("sequences"),
                             count("context"),
                             count("rows")};
    const AttentionTimes times = measureAttention(size, info[1].As<Napi::Number>(), info[2].As<Napi::Number>());
    const auto listOf = [&](const std::vector<double>& seconds) {
      auto list = Napi::Array::New(info.Env());
      for (const double time : seconds) list.Set(list.Length(), time);
      return list;
    };
    auto result = Napi::Object::New(info.Env());
    result.Set("attend", listOf(times.attend));
    result.Set("read", listOf(times.read));
    result.Set("bytes", static_cast<double>(times.bytes));
    return result;
  });
}

static Napi::Value cpuFeatures(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    auto result = Napi::Object::New(info.Env());
    result.Set("kernels", chosenKernels());
    auto available = Napi::Array::New(info.Env());
    for (const std::string& name : availableKernels()) available.Set(available.Length(), name);
    result.Set("available", available);
    return result;
  });
}

static Napi::Value buildInfo(const Napi::CallbackInfo& info) {
  auto result = Napi::Object::New(info.Env());
  result.Set("compiler", __VERSION__);
  result.Set("cuda", builtWithCuda());
  return result;
}

static Napi::Object initialize(Napi::Env env, Napi::Object exports) {
  // Runs once for all environments (worker threads) of the process.
  static const bool prepared = (prepareCuda(), true);
  static_cast<void>(prepared);
  // Freed with the environment: every worker thread has its own.
  env.SetInstanceData(new Napi::FunctionReference(Napi::Persistent(NativeEngine::define(env))));
  exports.Set("createEngine", Napi::Function::New<createEngine>(env));
  exports.Set("estimateMemory", Napi::Function::New<estimate>(env));
  exports.Set("unsupported", Napi::Function::New<findUnsupported>(env));
  exports.Set("shardShapes", Napi::Function::New<shardShapes>(env));
  exports.Set("openListener", Napi::Function::New<openListener>(env));
  exports.Set("closeListener", Napi::Function::New<closeListener>(env));
  exports.Set("openVocabulary", Napi::Function::New<openVocabulary>(env));
  exports.Set("writeTensors", Napi::Function::New<startWriting>(env));
  exports.Set("cpuFeatures", Napi::Function::New<cpuFeatures>(env));
  exports.Set("cudaReport", Napi::Function::New<cudaReport>(env));
  exports.Set("buildInfo", Napi::Function::New<buildInfo>(env));
  exports.Set("measureReadBandwidth", Napi::Function::New<readBandwidth>(env));
  exports.Set("measureFmaPeak", Napi::Function::New<fmaPeak>(env));
  exports.Set("measureAllReduce", Napi::Function::New<allReduceSeconds>(env));
  exports.Set("measureCopy", Napi::Function::New<copySeconds>(env));
  exports.Set("measureAttention", Napi::Function::New<attentionTimes>(env));
  return exports;
}

NODE_API_MODULE(shardspeed, initialize)

}  // namespace shardspeed
