#include "binding/writer.h"

#include <atomic>
#include <exception>
#include <memory>
#include <string>
#include <utility>

#include "base/error.h"
#include "binding/convert.h"
#include "binding/guard.h"
#include "model/tensor_writer.h"

namespace shardspeed {

// State that JavaScript and the writing thread share.
struct WriteState {
  std::atomic<bool> stop{false};
  std::atomic<int64_t> written{0};
};

class WriteJob : public Napi::AsyncWorker {
 public:
  WriteJob(Napi::Env env, WritePlan plan, std::shared_ptr<WriteState> state)
      : Napi::AsyncWorker(env, "shardspeed"),
        done(Napi::Promise::Deferred::New(env)),
        plan_(std::move(plan)),
        state_(std::move(state)) {}

  Napi::Promise::Deferred done;

 protected:
  void Execute() override {
    try {
      writeTensors(plan_, state_->stop, state_->written);
    } catch (const Error& error) {
      code_ = error.code();
      SetError(error.what());
    } catch (const std::exception& error) {
      SetError(error.what());
    }
  }
  void OnOK() override { done.Resolve(Env().Undefined()); }
  void OnError(const Napi::Error& error) override {
    error.Set("code", code_);
    done.Reject(error.Value());
  }

 private:
  WritePlan plan_;
  std::shared_ptr<WriteState> state_;
  std::string code_ = "ERR_NATIVE";
};

Napi::Value startWriting(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const Napi::Env env = info.Env();
    const auto state = std::make_shared<WriteState>();
    auto* job = new WriteJob(env, toWritePlan(info[0]), state);  // deletes itself
    auto result = Napi::Object::New(env);
    result.Set("done", job->done.Promise());
    result.Set("cancel", Napi::Function::New(env, [state](const Napi::CallbackInfo&) { state->stop = true; }));
    result.Set("writtenBytes", Napi::Function::New(env, [state](const Napi::CallbackInfo& call) {
                 return Napi::Number::New(call.Env(), static_cast<double>(state->written));
               }));
    job->Queue();
    return result;
  });
}

}  // namespace shardspeed
