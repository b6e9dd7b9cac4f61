#pragma once

namespace shardspeed::cuda {

// Whether the current device can start a kernel while the one before it drains (programmatic dependent launch): from
// compute capability 9.0 on. SHARDSPEED_CUDA_PDL=0 says no.
bool canOverlap();

}  // namespace shardspeed::cuda
