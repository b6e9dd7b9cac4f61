#include "binding/engine.h"

#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "binding/convert.h"
#include "binding/guard.h"
#include "runtime/beam_group.h"

namespace shardspeed {

// Delivers events from the engine's thread to JavaScript by one thread-safe function, one call a step. It keeps the
// process alive exactly while JavaScript waits for something (loading, a request, closing), and stops the engine when
// its environment ends by dispose(), process exit or worker.terminate().
//
// Lifetime: the thread-safe function owns a reference to the channel until its finalizer, which runs on the JavaScript
// thread after the engine's thread has released it, or when the environment is torn down.
class EventChannel : public std::enable_shared_from_this<EventChannel> {
 public:
  static std::shared_ptr<EventChannel> open(Napi::Env env, const Napi::Function& onEvents, EngineOptions options) {
    std::shared_ptr<EventChannel> channel(new EventChannel(env));
    auto* owner = new std::shared_ptr<EventChannel>(channel);
    const napi_value name = Napi::String::New(env, "shardspeed");
    napi_create_threadsafe_function(env, onEvents, nullptr, name, 0, 1, owner, finalize, channel.get(), deliver,
                                    &channel->function_);
    // Added after the thread-safe function, so it runs before Node closes that one.
    napi_add_env_cleanup_hook(env, endWithEnvironment, channel.get());
    // Loading; if rank 0 is another process, also the end, since this one computes for it until then.
    channel->outstanding_ = options.firstRank > 0 ? 2 : 1;
    EventChannel* self = channel.get();
    try {
      channel->engine_ = std::make_unique<Engine>(
          std::move(options), [self](std::vector<Event>&& events) { self->post(std::move(events)); },
          [self] { napi_release_threadsafe_function(self->function_, napi_tsfn_release); });
    } catch (const std::exception& error) {
      channel->closing_ = true;
      napi_release_threadsafe_function(channel->function_,
                                       napi_tsfn_release);  // instead of the engine's thread
      throw Error("ERR_OUT_OF_MEMORY", std::string("the system refused to start the engine's thread: ") + error.what());
    }
    return channel;
  }

  // Null once closed.
  Engine* engine() const { return closing_ ? nullptr : engine_.get(); }

  void submit(std::unique_ptr<Sequence> sequence) {
    const size_t answers = sequence->beams ? sequence->beams->ids.size() : 1 + sequence->forks.size();
    for (size_t i = 0; i < answers; ++i) hold();
    engine_->submit(std::move(sequence));
  }

  Napi::Value close() {
    if (!closed_) {
      closed_ = std::make_unique<Napi::Promise::Deferred>(Napi::Promise::Deferred::New(env_));
      if (finalized_) {
        closed_->Resolve(env_.Undefined());
      } else if (!closing_) {
        closing_ = true;
        napi_ref_threadsafe_function(env_, function_);
        engine_->requestStop();
      }
    }
    return closed_->Promise();
  }

  void stop() {
    closing_ = true;
    if (!finalized_ && engine_) engine_->requestStop();
  }

 private:
  explicit EventChannel(Napi::Env env) : env_(env) {}

  // Called on the engine's thread. A function that is closing refuses the call; nobody listens any more then.
  void post(std::vector<Event>&& events) {
    auto* batch = new std::vector<Event>(std::move(events));
    if (napi_call_threadsafe_function(function_, batch, napi_tsfn_nonblocking) != napi_ok) delete batch;
  }

  static void deliver(napi_env env, napi_value callback, void* context, void* data) {
    const std::unique_ptr<std::vector<Event>> batch(static_cast<std::vector<Event>*>(data));
    auto* self = static_cast<EventChannel*>(context);
    if (env == nullptr || self->closing_) return;
    const Napi::HandleScope scope(env);
    auto events = Napi::Array::New(env, batch->size());
    for (uint32_t i = 0; i < batch->size(); ++i) {
      Event& event = (*batch)[i];
      const bool failed = event.kind == EventKind::kFailed;
      const bool settles = event.kind == EventKind::kReady || event.kind == EventKind::kDone ||
                           event.kind == EventKind::kRejected || event.kind == EventKind::kOutputs ||
                           event.kind == EventKind::kEnded;
      events.Set(i, toObject(env, event));
      if (failed)
        self->letGo(self->outstanding_);
      else if (settles)
        self->letGo(1);
    }
    Napi::Function(env, callback).Call({events});
  }

  static void finalize(napi_env env, void* data, void*) {
    const std::unique_ptr<std::shared_ptr<EventChannel>> owner(static_cast<std::shared_ptr<EventChannel>*>(data));
    EventChannel& self = **owner;
    napi_remove_env_cleanup_hook(env, endWithEnvironment, &self);
    self.finalized_ = true;
    if (self.engine_) self.engine_->join();
    if (self.closed_) {
      const Napi::HandleScope scope(env);
      self.closed_->Resolve(self.env_.Undefined());
    }
  }

  static void endWithEnvironment(void* data) {
    auto* self = static_cast<EventChannel*>(data);
    self->closing_ = true;
    if (!self->engine_) return;
    self->engine_->requestStop();
    self->engine_->join();
  }

  void hold() {
    if (outstanding_++ == 0) napi_ref_threadsafe_function(env_, function_);
  }

  void letGo(int64_t count) {
    if (outstanding_ == 0) return;
    outstanding_ -= count;
    if (outstanding_ == 0) napi_unref_threadsafe_function(env_, function_);
  }

  Napi::Env env_;
  napi_threadsafe_function function_ = nullptr;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<Napi::Promise::Deferred> closed_;
  int64_t outstanding_ = 0;  // answers that JavaScript waits for
  bool closing_ = false;
  bool finalized_ = false;
};

Napi::Function NativeEngine::define(Napi::Env env) {
  return DefineClass(env, "NativeEngine",
                     {InstanceMethod<&NativeEngine::submit>("submit"), InstanceMethod<&NativeEngine::cancel>("cancel"),
                      InstanceMethod<&NativeEngine::stats>("stats"), InstanceMethod<&NativeEngine::close>("close")});
}

NativeEngine::NativeEngine(const Napi::CallbackInfo& info) : Napi::ObjectWrap<NativeEngine>(info) {
  guarded(info.Env(), [&] {
    EngineOptions options = toEngineOptions(info[0]);
    if (!info[1].IsFunction()) throw Error("ERR_NATIVE", "createEngine needs a function that takes its events");
    spec_ = options.spec;
    maxTokens_ = options.maxSequenceTokens;
    channel_ = EventChannel::open(info.Env(), info[1].As<Napi::Function>(), std::move(options));
    return info.Env().Undefined();
  });
}

NativeEngine::~NativeEngine() {
  if (channel_) channel_->stop();
}

void NativeEngine::submit(const Napi::CallbackInfo& info) {
  guarded(info.Env(), [&] {
    if (channel_->engine()) channel_->submit(toSequence(info[0], spec_, maxTokens_));
    return info.Env().Undefined();
  });
}

void NativeEngine::cancel(const Napi::CallbackInfo& info) {
  Engine* engine = channel_->engine();
  if (engine && info[0].IsNumber()) engine->cancel(info[0].As<Napi::Number>().Int64Value());
}

Napi::Value NativeEngine::stats(const Napi::CallbackInfo& info) {
  Engine* engine = channel_->engine();
  return toObject(info.Env(), engine ? engine->stats() : EngineStats{});
}

Napi::Value NativeEngine::close(const Napi::CallbackInfo&) {
  return channel_->close();
}

}  // namespace shardspeed
