import module from "node:module";

/** Node has them from 22.15 on; its types of 20 do not know them. */
type ResolveHook = (specifier: string, context: object, nextResolve: NextResolve) => unknown;
type NextResolve = (specifier: string, context: object) => unknown;
interface NewerModule {
  registerHooks?(hooks: { resolve: ResolveHook }): void;
}

const packageName = "shardspeed";
let isReady = false;

/**
 * From here on `import "shardspeed"` finds this package where it would find none: a handler that was unpacked to a temporary folder has no
 * node_modules above it. Where it finds one, that is the one.
 */
export function makePackageFindable(): void {
  if (isReady) return;
  isReady = true;
  const own = new URL("../index.js", import.meta.url).href;
  const { registerHooks } = module as NewerModule;
  if (registerHooks === undefined) {
    // A thread of its own resolves imports then. Of require() it knows nothing.
    module.register(new URL("./resolve_hook.js", import.meta.url).href, { data: { own } });
    return;
  }
  registerHooks({
    resolve(specifier, context, nextResolve) {
      try {
        return nextResolve(specifier, context);
      } catch (error) {
        if (specifier !== packageName) throw error;
        return nextResolve(own, context);
      }
    },
  });
}
