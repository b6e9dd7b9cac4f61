#pragma once

#include <napi.h>

namespace shardspeed {

// writeTensors of lib/native/binding.ts.
Napi::Value startWriting(const Napi::CallbackInfo& info);

}  // namespace shardspeed
