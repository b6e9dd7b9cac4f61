#pragma once

#include <napi.h>

#include <memory>

#include "model/tensor_writer.h"
#include "runtime/engine.h"
#include "runtime/rank_parts.h"

namespace shardspeed {

// JavaScript objects (lib/native/binding.ts) to what the engine takes, and back. Nothing is checked: TypeScript did.
EngineOptions toEngineOptions(const Napi::Object& plan);
std::unique_ptr<Sequence> toSequence(const Napi::Object& request);
WritePlan toWritePlan(const Napi::Object& object);
// Moves the event's contents.
Napi::Object toObject(Napi::Env env, Event& event);
Napi::Object toObject(Napi::Env env, const EngineStats& stats);
Napi::Array toArray(Napi::Env env, const std::vector<MemoryEstimate>& estimates);

}  // namespace shardspeed
