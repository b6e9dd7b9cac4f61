import module from "node:module";
import { fileURLToPath } from "node:url";

/** Node has them from 22.15 on; its types of 20 do not know them. */
type ResolveHook = (specifier: string, context: object, nextResolve: NextResolve) => unknown;
type NextResolve = (specifier: string, context: object) => unknown;
interface NewerModule {
  registerHooks?(hooks: { resolve: ResolveHook }): void;
}

/** What require() asks where a file is. Older versions of Node have no other way in. */
interface RequireLoader {
  _resolveFilename(request: string, ...more: unknown[]): string;
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
    resolveRequire(own);
    return;
  }
  registerHooks({
    resolve(specifier, context, nextResolve) {
      try {
        return nextResolve(specifier, context);
      } catch (error) {
        if (specifier !== packageName) throw error;
        // Not nextResolve(own): require() comes here too, and resolves paths, no URLs.
        return { url: own, format: "module", shortCircuit: true };
      }
    },
  });
}

function resolveRequire(own: string): void {
  const loader = module as unknown as RequireLoader;
  const resolveFilename = loader._resolveFilename;
  loader._resolveFilename = function (request, ...more) {
    try {
      return resolveFilename.call(this, request, ...more);
    } catch (error) {
      if (request !== packageName) throw error;
      return fileURLToPath(own);
    }
  };
}
