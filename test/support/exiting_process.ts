// A process that ends while its engine works: node exiting_process.js MODEL exit|idle|throw|SIGTERM [DEVICE]
import { initInference } from "../../dist/index.js";

const [model = "", how, device = "cpu"] = process.argv.slice(2);
const engine = await initInference(model, { device });
if (how === "idle") {
  // An engine that nobody waits for does not keep the process alive.
  await engine.generate("The", { maxNewTokens: 4 });
} else {
  for await (const chunk of engine.stream("The", { maxNewTokens: 450, ignoreEos: true })) {
    process.stdout.write(`${chunk.ids.length}\n`);
    if (how === "exit") process.exit(3);
    if (how === "throw")
      setImmediate(() => {
        throw new Error("on purpose");
      });
  }
}
