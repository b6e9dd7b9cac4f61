import assert from "node:assert/strict";
import { test } from "node:test";
import ts from "typescript";
import { type Declarations, readDeclarations } from "../support/declarations.js";

/** Members that the language names: constructors, disposal, and private ones. */
const ofLanguage = /^(constructor|prototype|__@|__#|#)/;

/** Exported names, and members of exported types, that an editor shows no text for. */
function withoutComments({ checker, exported }: Declarations): string[] {
  const missing: string[] = [];
  for (const [name, symbol] of exported) {
    if (isUndocumented(symbol, checker)) missing.push(name);
    const type = symbol.flags & ts.SymbolFlags.Value ? undefined : checker.getDeclaredTypeOfSymbol(symbol);
    const instance = symbol.flags & ts.SymbolFlags.Class ? checker.getDeclaredTypeOfSymbol(symbol) : type;
    const statics = symbol.flags & ts.SymbolFlags.Class ? checker.getTypeOfSymbol(symbol) : undefined;
    for (const holder of [instance, statics]) {
      for (const member of holder === undefined ? [] : membersOf(holder)) {
        if (isOwn(member) && !ofLanguage.test(member.name) && isUndocumented(member, checker))
          missing.push(`${name}.${member.name}`);
      }
    }
  }
  return missing.sort();
}

/** Of a union the members of each part: { phase: "save"; savedBytes: number } | ... */
function membersOf(type: ts.Type): ts.Symbol[] {
  const parts = type.isUnion() ? type.types : [type];
  return parts.filter((part) => part.flags & ts.TypeFlags.Object).flatMap((part) => part.getProperties());
}

/** Declared by this package, and not by the language or Node. */
function isOwn(symbol: ts.Symbol): boolean {
  return (symbol.declarations ?? []).some((declaration) => {
    const modifiers = ts.getCombinedModifierFlags(declaration);
    return /\/dist\//.test(declaration.getSourceFile().fileName) && !(modifiers & ts.ModifierFlags.Private);
  });
}

function isUndocumented(symbol: ts.Symbol, checker: ts.TypeChecker): boolean {
  const text = ts.displayPartsToString(symbol.getDocumentationComment(checker));
  return text.trim() === "" && symbol.getJsDocTags(checker).length === 0;
}

test("every exported name, and every public member of an exported type, has a doc comment", () => {
  assert.deepEqual(withoutComments(readDeclarations()), []);
});
