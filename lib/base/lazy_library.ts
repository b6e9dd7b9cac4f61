import { createRequire } from "node:module";

const require = createRequire(import.meta.url);

/**
 * A library that takes long to load, and that most programs do without: it is loaded when it is first called for, not with the package.
 *
 * @param name Of a package that has a CommonJS form: what needs it may be synchronous.
 */
export function lazyLibrary<Library>(name: string): () => Library {
  let library: Library | undefined;
  return () => {
    library ??= require(name) as Library;
    return library;
  };
}
