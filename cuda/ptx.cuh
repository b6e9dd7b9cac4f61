#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

// All inline PTX. test/emulator/ptx_emulated.h is its twin in C++.

#ifndef __CUDACC__
#include "ptx_emulated.h"
#else

namespace shardspeed::cuda {

__device__ __forceinline__ unsigned sharedAddress(const void* shared) {
  return static_cast<unsigned>(__cvta_generic_to_shared(shared));
}

// 16 bytes from global to shared memory behind the thread's back; zeros where not `valid` (global is not read then, but
// must still be aligned). Both aligned to 16.
__device__ __forceinline__ void cpAsync16(void* shared, const void* global, bool valid = true) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(sharedAddress(shared)), "l"(global),
               "r"(valid ? 16 : 0)
               : "memory");
}
// Likewise 8 bytes, aligned to 8.
__device__ __forceinline__ void cpAsync8(void* shared, const void* global, bool valid = true) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(sharedAddress(shared)), "l"(global),
               "r"(valid ? 8 : 0)
               : "memory");
}
__device__ __forceinline__ void cpAsyncCommit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
// Waits until at most `Pending` of the thread's committed groups are under way. Other threads' copies need a barrier.
template <int Pending>
__device__ __forceinline__ void cpAsyncWait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
}

// Four 8 x 8 matrices of 16-bit elements; lane i gives the address of row i % 8 of matrix i / 8 (aligned to 16). Lane i
// gets elements (i / 4, 2 (i % 4)) and the next of each; the transposed form (2 (i % 4), i / 4) and the one below.
__device__ __forceinline__ void ldmatrixX4(uint32_t (&out)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(sharedAddress(row))
               : "memory");
}
__device__ __forceinline__ void ldmatrixX4Transposed(uint32_t (&out)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(sharedAddress(row))
               : "memory");
}

// d += a b, a (16, 16) row-major, b (16, 8) column-major, d (16, 8) fp32: PTX ISA, "mma.m16n8k16". With g = lane / 4
// and t = lane % 4: a[0] holds (g, 2t) and (g, 2t + 1), a[1] the row g + 8, a[2] the columns + 8, a[3] both; b[0] holds
// rows 2t and 2t + 1 of column g, b[1] the rows + 8; d[0], d[1] are (g, 2t), (g, 2t + 1), d[2], d[3] the row g + 8.
template <typename T>
__device__ __forceinline__ void mma16816(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);
template <>
__device__ __forceinline__ void mma16816<__half>(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
template <>
__device__ __forceinline__ void mma16816<__nv_bfloat16>(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// 2^x within 2 ulp; results too small for a normal number are 0. One instruction, where exp2f takes four for their
// sake.
__device__ __forceinline__ float exp2Fast(float x) {
  float power;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
  return power;
}

// The value within [-limit, limit]; NaN stays NaN.
__device__ __forceinline__ float clampedTo(float limit, float value) {
  asm("min.NaN.f32 %0, %0, %1;" : "+f"(value) : "f"(limit));
  asm("max.NaN.f32 %0, %0, %1;" : "+f"(value) : "f"(-limit));
  return value;
}

// Two elements in a word, rounded to nearest even, the first in the low half.
__device__ __forceinline__ uint32_t packHalves(float low, float high) {
  uint32_t pair;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}
__device__ __forceinline__ uint32_t packBfloats(float low, float high) {
  uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}

// The low halves of two words, or the high ones, the first word's below.
__device__ __forceinline__ uint32_t lowHalves(uint32_t a, uint32_t b) {
  return __byte_perm(a, b, 0x5410);
}
__device__ __forceinline__ uint32_t highHalves(uint32_t a, uint32_t b) {
  return __byte_perm(a, b, 0x7632);
}

// 1 / x within 1 ulp.
__device__ __forceinline__ float reciprocalFast(float x) {
  float result;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

// 16 bytes that nothing writes while the kernel runs and that are read once: weights. Past the L1 cache. Not
// ld.global.nc: ptxas moves those freely, and what was to be fetched before pdlWait() ends up behind it.
__device__ __forceinline__ uint4 loadStream16(const void* global) {
  uint4 value;
  asm volatile("ld.global.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "l"(global));
  return value;
}

// The same pointer, of which the compiler knows nothing: it makes no copies of a loop for null and for the rest, and
// keeps the pointer instead of what it was computed from.
template <typename T>
__device__ __forceinline__ const T* unforeseen(const T* pointer) {
  asm volatile("" : "+l"(pointer));
  return pointer;
}

// Asks for memory that a later kernel will read, 16-byte pieces, to be brought to the L2 cache. sm_80 has no such copy.
__device__ __forceinline__ void prefetchL2(const void* global, uint32_t bytes) {
#if __CUDA_ARCH__ >= 900
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(global), "r"(bytes) : "memory");
#endif
}

// Programmatic dependent launch: wait until the kernels before this one are done and their writes are seen; allow the
// next kernel to start.
__device__ __forceinline__ void pdlWait() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
__device__ __forceinline__ void pdlTrigger() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// Order between blocks of the device.
__device__ __forceinline__ uint32_t loadAcquire(const uint32_t* address) {
  uint32_t value;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(address) : "memory");
  return value;
}
__device__ __forceinline__ void storeRelease(uint32_t* address, uint32_t value) {
  asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(address), "r"(value) : "memory");
}
// Returns what was there. Acquires and releases, but for this thread alone: other threads of the block need a barrier
// before it (their writes) and one after it (their reads).
__device__ __forceinline__ uint32_t ticket(uint32_t* counter) {
  uint32_t value;
  asm volatile("atom.add.acq_rel.gpu.global.u32 %0, [%1], 1;" : "=r"(value) : "l"(counter) : "memory");
  return value;
}
// The same of a counter that begins again at 0 after `count` tickets.
__device__ __forceinline__ uint32_t ticketOf(uint32_t* counter, uint32_t count) {
  uint32_t value;
  asm volatile("atom.inc.acq_rel.gpu.global.u32 %0, [%1], %2;" : "=r"(value) : "l"(counter), "r"(count - 1) : "memory");
  return value;
}
// Order between devices, and with the host, whose mapped memory is global memory too. Only where the link between two
// devices carries it: peer access does.
__device__ __forceinline__ uint32_t loadAcquireSystem(const uint32_t* address) {
  uint32_t value;
  asm volatile("ld.acquire.sys.global.u32 %0, [%1];" : "=r"(value) : "l"(address) : "memory");
  return value;
}
__device__ __forceinline__ void storeReleaseSystem(uint32_t* address, uint32_t value) {
  asm volatile("st.release.sys.global.u32 [%0], %1;" ::"l"(address), "r"(value) : "memory");
}
// These order nothing around them.
__device__ __forceinline__ uint32_t loadRelaxedSystem(const uint32_t* address) {
  uint32_t value;
  asm volatile("ld.relaxed.sys.global.u32 %0, [%1];" : "=r"(value) : "l"(address) : "memory");
  return value;
}
__device__ __forceinline__ void storeRelaxedSystem(uint32_t* address, uint32_t value) {
  asm volatile("st.relaxed.sys.global.u32 [%0], %1;" ::"l"(address), "r"(value) : "memory");
}
// Four words, each of which is written and seen whole, but not the four together, nor in any order (PTX ISA, memory
// consistency model, "Vector Data-types"). Aligned to 16.
__device__ __forceinline__ uint4 loadRelaxedSystem16(const void* address) {
  uint4 value;
  asm volatile("ld.relaxed.sys.global.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "l"(address)
               : "memory");
  return value;
}
__device__ __forceinline__ void storeRelaxedSystem16(void* address, uint4 value) {
  asm volatile("st.relaxed.sys.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(address), "r"(value.x), "r"(value.y),
               "r"(value.z), "r"(value.w)
               : "memory");
}
// In every loop that waits for another block.
__device__ __forceinline__ void spinPause() {
#if __CUDA_ARCH__ >= 700
  __nanosleep(20);
#endif
}

}  // namespace shardspeed::cuda

#endif  // __CUDACC__
