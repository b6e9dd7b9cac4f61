#pragma once

#include <napi.h>

namespace shardspeed {

// lib/native/binding.ts, writeTensors.
Napi::Value startWriting(const Napi::CallbackInfo& info);

}  // namespace shardspeed
