#pragma once

#include <napi.h>

#include <exception>
#include <string>

#include "base/error.h"

namespace shardspeed {

// Runs body and returns what it returns. No exception may reach Node, whose frames know nothing of them: they become
// JavaScript errors with their code, and the result is then undefined.
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
