#pragma once

#include "stream.h"

// What is done of the work on streams, and when.

namespace emulator {

bool reached(const Mark& mark);
// Waits. The error of the mark's device, if it has one.
cudaError_t runUntil(Mark mark);
// One operation, if there is one and it does not wait for others: the way programs that ask again and again get on.
cudaError_t advance(Mark mark);
// The device fails: what was to be done on it is given up. Returns status.
cudaError_t failDevice(int device, cudaError_t status);
// Something was enqueued.
void noteEnqueued();

}  // namespace emulator
