#pragma once

#include <napi.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "binding/object_reader.h"
#include "token_constraint.h"

namespace shardspeed {

// lib/native/binding.ts, openVocabulary.
Napi::Value openVocabulary(const Napi::CallbackInfo& info);

// What keeps a request's text within the grammar of this number; null for 0. Its stop tokens that stand for no text may
// end the text.
std::unique_ptr<TokenConstraint> toGrammarConstraint(const ValueReader& number, const std::vector<int32_t>& stopTokens,
                                                     int64_t vocab);

}  // namespace shardspeed
