#pragma once

#include <napi.h>

#include <exception>
#include <string>

#include "base/error.h"

namespace shardspeed {

// Runs body and returns its result. C++ exceptions must not reach Node's frames, which cannot unwind them: they become
// JavaScript errors with a code, and the result is undefined.
template <typename Body>
Napi::Value guarded(Napi::Env env, Body&& body) {
  std::string code = "ERR_NATIVE";
  std::string message;
  try {
    return body();
  } catch (const Error& error) {
    code = error.code();
    message = error.what();
  } catch (const std::exception& error) {
    message = error.what();
  }
  Napi::Error error = Napi::Error::New(env, message);
  error.Set("code", code);
  error.ThrowAsJavaScriptException();
  return env.Undefined();
}

}  // namespace shardspeed
