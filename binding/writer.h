#pragma once

#include <napi.h>

namespace shardspeed {

// lib/native.ts, writeTensors.
Napi::Value startWriting(const Napi::CallbackInfo& info);

}  // namespace shardspeed
