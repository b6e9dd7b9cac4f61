import path from "node:path";
import ts from "typescript";
import { root } from "../package/programs.js";

/** The types that users of the package see, as TypeScript reads them. */
export interface Declarations {
  checker: ts.TypeChecker;
  /** What index.d.ts exports, by name; aliases are followed. */
  exported: ReadonlyMap<string, ts.Symbol>;
}

/** Reads dist/index.d.ts and what it imports. */
export function readDeclarations(): Declarations {
  const file = path.join(root, "dist/index.d.ts");
  const program = ts.createProgram([file], {
    ...{ strict: true, noEmit: true, target: ts.ScriptTarget.ES2023, types: ["node"] },
    ...{ module: ts.ModuleKind.NodeNext, moduleResolution: ts.ModuleResolutionKind.NodeNext },
  });
  const checker = program.getTypeChecker();
  const source = program.getSourceFile(file);
  const module = source && checker.getSymbolAtLocation(source);
  if (module === undefined) throw new Error(`${file} is no module: run npm run build:ts`);
  const follow = (symbol: ts.Symbol) =>
    symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol;
  const exported = checker.getExportsOfModule(module).map((symbol) => [symbol.name, follow(symbol)] as const);
  return { checker, exported: new Map(exported) };
}

/** The keys of an exported interface, with those of the interfaces that its keys hold: "tensor_parallel.tp_size". */
export function keysOf({ checker, exported }: Declarations, name: string): string[] {
  const symbol = exported.get(name);
  if (symbol === undefined) throw new Error(`There is no exported type ${name}`);
  const list = (type: ts.Type, parent: string): string[] =>
    checker.getPropertiesOfType(type).flatMap((property) => {
      const place = parent + property.name;
      const held = checker.getNonNullableType(checker.getTypeOfSymbol(property));
      const parts = held.isUnion() ? held.types : [held];
      const own = parts.filter((part) => part.symbol && exported.has(part.symbol.name));
      return [place, ...own.flatMap((part) => list(part, `${place}.`))];
    });
  return list(checker.getDeclaredTypeOfSymbol(symbol), "");
}
