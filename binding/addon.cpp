#include <napi.h>

#include <string>

#include "binding/convert.h"
#include "binding/cuda.h"
#include "binding/engine.h"
#include "binding/guard.h"
#include "cpu/cpu_features.h"
#include "cpu/measure.h"

// The whole native surface, as lib/native.ts declares it.

namespace shardspeed {

static Napi::Value createEngine(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const auto* constructor = info.Env().GetInstanceData<Napi::FunctionReference>();
    return constructor->New({info[0], info[1]});
  });
}

static Napi::Value estimate(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return toObject(info.Env(), estimateMemory(toEngineOptions(info[0].As<Napi::Object>())));
  });
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
  // Once for all environments (worker threads) of the process.
  static const bool prepared = (prepareCuda(), true);
  static_cast<void>(prepared);
  // Freed with the environment: every worker thread has its own.
  env.SetInstanceData(new Napi::FunctionReference(Napi::Persistent(NativeEngine::define(env))));
  exports.Set("createEngine", Napi::Function::New<createEngine>(env));
  exports.Set("estimateMemory", Napi::Function::New<estimate>(env));
  exports.Set("cpuFeatures", Napi::Function::New<cpuFeatures>(env));
  exports.Set("cudaReport", Napi::Function::New<cudaReport>(env));
  exports.Set("buildInfo", Napi::Function::New<buildInfo>(env));
  exports.Set("measureReadBandwidth", Napi::Function::New<readBandwidth>(env));
  exports.Set("measureFmaPeak", Napi::Function::New<fmaPeak>(env));
  return exports;
}

NODE_API_MODULE(shardspeed, initialize)

}  // namespace shardspeed
