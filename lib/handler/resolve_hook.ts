// Runs in Node's thread for module hooks, which loads it by its URL: it has to be a file of its own. See module_hooks.ts.
import type { InitializeHook, ResolveHook } from "node:module";

let own: string | undefined;

export const initialize: InitializeHook<{ own: string }> = (data) => {
  own = data.own;
};

export const resolve: ResolveHook = async (specifier, context, nextResolve) => {
  try {
    return await nextResolve(specifier, context);
  } catch (error) {
    if (specifier !== "shardspeed" || own === undefined) throw error;
    return nextResolve(own, context);
  }
};
