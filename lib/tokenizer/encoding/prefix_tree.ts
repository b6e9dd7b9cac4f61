interface TreeNode {
  /** The number that was given for the text that ends here. */
  value: number | undefined;
  /** By the first code unit of what leads to them. */
  branches: Map<number, { label: string; node: TreeNode }>;
}

const emptyNode = (): TreeNode => ({ value: undefined, branches: new Map() });

/** Texts with numbers, found at a place of another text. Nodes are only where texts part, so 60,000 texts are no burden. */
export class PrefixTree {
  readonly #root = emptyNode();

  add(text: string, value: number): void {
    let node = this.#root;
    let place = 0;
    while (place < text.length) {
      const branch = node.branches.get(text.charCodeAt(place));
      if (branch === undefined) {
        const leaf = emptyNode();
        node.branches.set(text.charCodeAt(place), { label: text.slice(place), node: leaf });
        node = leaf;
        break;
      }
      let common = 0;
      const { label } = branch;
      while (common < label.length && label.charCodeAt(common) === text.charCodeAt(place + common)) common++;
      if (common < label.length) {
        const middle = emptyNode();
        middle.branches.set(label.charCodeAt(common), { label: label.slice(common), node: branch.node });
        branch.label = label.slice(0, common);
        branch.node = middle;
      }
      node = branch.node;
      place += common;
    }
    node.value = value;
  }

  /** Calls `found` for each text that stands at a place, shortest first. */
  at(text: string, place: number, found: (value: number, end: number) => void): void {
    let node = this.#root;
    let at = place;
    for (;;) {
      const branch = node.branches.get(text.charCodeAt(at));
      if (branch === undefined || !text.startsWith(branch.label, at)) return;
      at += branch.label.length;
      node = branch.node;
      if (node.value !== undefined) found(node.value, at);
    }
  }
}
