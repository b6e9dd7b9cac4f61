#pragma once

#include <napi.h>

namespace shardspeed {

// The addon's functions for CUDA. Every build has them; in a build without CUDA they say so.

// Call it before the first engine is made.
void prepareCuda();
Napi::Value cudaReport(const Napi::CallbackInfo& info);
bool builtWithCuda();

}  // namespace shardspeed
