import type { FastifyReply } from "fastify";

/** Why a hook refuses a request. */
export type RefusalCode = "invalid_api_key" | "insufficient_permissions" | "origin_not_allowed" | "host_not_allowed";

/** Answers a refused request: each family of APIs has its own body. */
export type OnRefuse = (reply: FastifyReply, status: number, code: RefusalCode, message: string) => unknown;
