// Fetches NVIDIA's disassembler, their own packages on PyPI (6 MB unpacked), into the folder of scripts/cuda_toolkit.mjs.
// The oldest on PyPI are newer than the compiler, which they can read.
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import path from "node:path";
import { cache, once, pipOptions, runPython } from "./cuda_toolkit.mjs";

const packages = ["nvidia-cuda-cuobjdump==13.2.86", "nvidia-cuda-nvdisasm==13.2.86"];

/** Folder with cuobjdump and nvdisasm, fetched now unless they have been. Throws ToolkitError. */
export function fetchedDisassembler() {
  const listHash = createHash("sha256").update(packages.join()).digest("hex").slice(0, 8);
  const folder = path.join(cache, `disassembler-${listHash}`);
  once(folder, (temporary) => {
    process.stderr.write("Fetching the CUDA disassembler ...\n");
    const args = ["-m", "pip", "install", ...pipOptions, "--no-compile", "--target", temporary, ...packages];
    runPython(args, "fetch the CUDA disassembler from PyPI");
  });
  return path.join(folder, "nvidia", "cu13", "bin");
}

/** What cuobjdump says of the machine code in a file. */
export function disassemble(tools, file) {
  return new Promise((resolve, reject) => {
    // cuobjdump looks for nvdisasm in PATH.
    const env = { ...process.env, PATH: `${tools}${path.delimiter}${process.env.PATH ?? ""}` };
    const child = spawn(path.join(tools, "cuobjdump"), ["-sass", file], { env, stdio: ["ignore", "pipe", "pipe"] });
    const parts = [];
    let said = "";
    child.stdout.on("data", (part) => parts.push(part));
    child.stderr.setEncoding("utf8").on("data", (text) => {
      said += text;
    });
    child.on("error", reject);
    child.on("close", (status) => {
      if (status === 0) resolve(Buffer.concat(parts).toString("utf8"));
      else reject(new Error(`cuobjdump cannot read ${file}: ${said.trim()}`));
    });
  });
}
