#pragma once

#include <napi.h>

#include <memory>

#include "runtime/engine.h"

namespace shardspeed {

class EventChannel;

// NativeEngine of lib/native/binding.ts: an Engine and the channel that delivers its events to JavaScript.
class NativeEngine : public Napi::ObjectWrap<NativeEngine> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit NativeEngine(const Napi::CallbackInfo& info);
  ~NativeEngine() override;

 private:
  void submit(const Napi::CallbackInfo& info);
  void cancel(const Napi::CallbackInfo& info);
  Napi::Value stats(const Napi::CallbackInfo& info);
  Napi::Value close(const Napi::CallbackInfo& info);

  std::shared_ptr<EventChannel> channel_;
  ModelSpec spec_;
  int64_t maxTokens_ = 0;  // of a sequence
};

}  // namespace shardspeed
