// Numbers that the native side has too: each names its counterpart, and a test keeps the two equal.

/** Tokens in a page of the KV cache (kPageTokens of src/backend.h). */
export const pageTokens = 16;

/** Most log-probabilities besides the chosen token's (kMostLogprobs of cuda/sample.h). */
export const mostLogprobs = 20;

/** Most samples of one prompt, as OpenAI's. */
export const mostSamples = 128;

/** Most tokens of a step: more rows than this do not fit into one launch on CUDA, and nobody gains by them. */
export const mostBatchTokens = 65_535;

/** Most CPU threads of a rank. */
export const mostThreads = 1024;

/** Most ranks of a group (kMostRanks of src/comm/group.h). */
export const mostRanks = 64;
