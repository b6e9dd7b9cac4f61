#pragma once

#include <napi.h>

#include <memory>

#include "model/tensor_writer.h"
#include "runtime/engine.h"
#include "runtime/rank_parts.h"

namespace shardspeed {

// JavaScript objects (lib/native/binding.ts) to what the engine takes, and back. What users may get wrong has been
// checked in TypeScript; here whatever the engine does not know, or could not survive, throws Error("ERR_NATIVE").
EngineOptions toEngineOptions(const Napi::Value& plan);
// Reads the part of a RankPlan that memory depends on.
EngineOptions toRankOptions(const Napi::Value& plan);
// For an engine of this model, with so many tokens at most in a sequence.
std::unique_ptr<Sequence> toSequence(const Napi::Value& request, const ModelSpec& spec, int64_t maxTokens);
WritePlan toWritePlan(const Napi::Value& plan);
// Moves the event's contents.
Napi::Object toObject(Napi::Env env, Event& event);
Napi::Object toObject(Napi::Env env, const EngineStats& stats);
Napi::Array toArray(Napi::Env env, const std::vector<MemoryEstimate>& estimates);

}  // namespace shardspeed
