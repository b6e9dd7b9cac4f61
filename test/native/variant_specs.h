#pragma once

#include <string>
#include <vector>

#include "tiny_model.h"

namespace shardspeed::test {

// Small models that between them have every variant of the spec: all runs of whole models go over them, on the CPU and
// on CUDA, on one rank and on several, in chunks and batches of any size.
struct Variant {
  std::string name;
  ModelSpec spec;
};
std::vector<Variant> variants();

}  // namespace shardspeed::test
