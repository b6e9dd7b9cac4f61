#pragma once

#include <napi.h>

namespace shardspeed {

// The CUDA half of the native surface, there in every build; a build without CUDA says so.

// Before the first engine is made.
void prepareCuda();
Napi::Value cudaReport(const Napi::CallbackInfo& info);
bool builtWithCuda();

}  // namespace shardspeed
