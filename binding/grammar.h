#pragma once

#include <napi.h>

#include <cstdint>
#include <memory>

#include "grammar/constraint.h"

namespace shardspeed {

// lib/native/binding.ts, openVocabulary.
Napi::Value openVocabulary(const Napi::CallbackInfo& info);

// The grammar with this number, by which requests name it; null where JavaScript holds none any more.
std::shared_ptr<const grammar::CompiledGrammar> findGrammar(int64_t number);

}  // namespace shardspeed
