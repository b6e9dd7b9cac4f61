#pragma once

#include <optional>
#include <string>

#include "backend_kind.h"
#include "model/spec.h"
#include "runtime/engine_options.h"

namespace shardspeed {

// The first thing of a model that cannot be computed on so many ranks of a kind of device, as a sentence; nothing where
// all of it can. Asked before anything is loaded: what the spec can say and nobody computes must not be left out in
// silence.
std::optional<std::string> unsupported(const ModelSpec& spec, int ranks, const std::string& device);

// Of the ranks of this process.
std::optional<std::string> unsupported(const EngineOptions& options);

}  // namespace shardspeed
